"""Print the files of a wheel, sorted, with the version taken out of the metadata folder's name."""

import re
import sys
import zipfile

names = sorted(
    re.sub(r"^edge_seg-[^/]+\.dist-info", "edge_seg.dist-info", n) for n in zipfile.ZipFile(sys.argv[1]).namelist()
)
print("\n".join(names))
