"""What users changed or added in a C project stays there when its model is compiled again.

    old/ main.c (edited), sensor.c (theirs), model.c     new/ main.c, model.c     ->     new/ main.c (edited), sensor.c (theirs), model.c

The manifest lists under "editable" what is generated only to begin with; the rest of what is generated is replaced.
"""

import json
import shutil
from pathlib import Path

from stack import manifest as manifests
from stack.errors import StackError


def keep_edits(old: Path, new: Path) -> None:
    """Copy into `new` what is the user's in `old`, the project whose place it takes.

    A file counts as edited where it is not the one that was generated. It stays as long as the same one would be generated again;
    StackError where that changed too, for both cannot be kept.
    """
    before, after = (json.loads((folder / manifests.NAME).read_text()) for folder in (old, new))
    if before["container"] != "c":
        return
    for file in sorted(old.rglob("*")):
        name = file.relative_to(old).as_posix()
        made = before["files"].get(name)
        generated = made is not None and (name not in before.get("editable", ()) or manifests.sha256(file) == made)
        if generated or name == manifests.NAME or not file.is_file():
            continue
        if after["files"].get(name, made) != made:
            raise StackError(
                "you edited a file that must now be another",
                at=str(file),
                hint="compile into a new folder and bring your changes there, or move the file away",
            )
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, new / name)  # with its time, so that make sees what is newer
