"""A page on which a person finds the recorded frames that are not normal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

_PAGE = Template("""<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Recorded frames</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff }
  main { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)) }
  label { display: block; cursor: pointer; text-align: center; font-size: .8rem }
  img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #eee; display: block }
  input { position: absolute; opacity: 0 }
  input:focus-visible + img { outline: 3px solid #0072b2 }
  input:checked + img { outline: 5px solid #d55e00; opacity: .4 }
  header { position: sticky; top: 0; background: #fff; padding: .5rem 0 }
  pre { background: #f2f2f2; padding: .5rem; white-space: pre-wrap; min-height: 1.5em }
</style>
<header>
  <h1>$count frames, the oddest first</h1>
  <p>Choose the frames that are not normal. This command, run in their folder, removes them:</p>
  <pre id="command">nothing is chosen</pre>
</header>
<main>
$frames
</main>
<script>
  const command = document.getElementById("command")
  document.querySelector("main").addEventListener("change", () => {
    const chosen = [...document.querySelectorAll(":checked")].map(box => box.value)
    command.textContent = chosen.length ? "rm " + chosen.join(" ") : "nothing is chosen"
  })
</script>
""")
_FRAME = Template(
    '<label><input type="checkbox" value="$name"><img src="$name" loading="lazy" alt="">'
    "$name</label>"
)


def weeding_page(paths: Sequence[Path]) -> bytes:
    """The bytes of an HTML page of pictures that lie beside it.

    It needs no network. Who chooses pictures gets the command that removes them.

    Args:
        paths: of the pictures, in the order of the page; their names are numbers and a suffix.
    """
    frames = "\n".join(_FRAME.substitute(name=path.name) for path in paths)
    return _PAGE.substitute(count=len(paths), frames=frames).encode()
