"""Tests that write DICOM and NIfTI files need the packages of both extras; elsewhere they are left out."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("pydicom") and find_spec("nibabel") else ["test_*.py"]
