"""An agent in a file of its own, for who starts it from outside: `cpa agent rechner.py`."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path

from cpa.agents.agent import Agent
from cpa.errors import BadInput


def agent_in(path: Path) -> Agent:
    """Run the file and give the one agent it makes. Beside it lies what it imports, as for any script.

    Raises `BadInput` for a file that is not there, that fails, or that makes no agent or several.
    """
    if not path.is_file():
        raise BadInput(f"there is no file {path}", field="what", remedy="check the path")
    name = f"{path.stem}_agent"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is no Python file", field="what", remedy="its name ends in .py")
    module = importlib.util.module_from_spec(spec)
    # Annotations of its functions are looked up there.
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except BadInput:
        raise
    except Exception as error:
        own = str(path.resolve())
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        raise BadInput(
            f"{path} fails{f' in line {line}' if line else ''}: {type(error).__name__}: {error}",
            field="what",
            remedy=f"correct it; `python {path}` shows where it comes from",
        ) from error
    made = list({id(value): value for value in vars(module).values() if isinstance(value, Agent)}.values())
    if len(made) != 1:
        raise BadInput(
            f"{path} makes {len(made)} agents",
            field="what",
            remedy='write `agent = Agent("…")` once, and `agent.run()` under `if __name__ == "__main__":`',
        )
    return made[0]
