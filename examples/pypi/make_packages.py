"""Makes two small wheels, one of which depends on the other, in the folder that it is given."""

import sys, zipfile, pathlib
def wheel(name, version, requires=()):
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}/__init__.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": "".join(["Metadata-Version: 2.1\n", f"Name: {name}\n", f"Version: {version}\n", *(f"Requires-Dist: {r}\n" for r in requires)]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: example\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{info}/RECORD"
    files[record] = "".join(f"{f},,\n" for f in [*files, record])
    path = pathlib.Path(sys.argv[1]) / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as z:
        for f, text in files.items():
            z.writestr(zipfile.ZipInfo(f, (2020, 1, 1, 0, 0, 0)), text)
wheel("demo-base", "1.0")
wheel("demo-app", "2.1", ["demo-base>=1.0"])
