"""How is the page that shows a run's images made?"""
