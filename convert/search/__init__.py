"""Which of several converted files is taken?"""
