"""What a cell shows; the stand-in writes the calls down and shows nothing."""

from collections.abc import Callable, Sequence
from typing import Any

from . import _faults

__all__ = ["clear", "eval_js", "no_vertical_scroll", "register_callback", "serve_kernel_port_as_iframe"]


def clear(wait: bool = False, output_tags: str | Sequence[str] = ()) -> None:
    """Clear what the cell has shown."""
    _faults.begin("output.clear", wait=wait, output_tags=output_tags)


def eval_js(script: str, ignore_result: bool = False, timeout_sec: float | None = None) -> Any:
    """Run a script in the page, which is not there, and return its result: None."""
    _faults.begin("output.eval_js", script=script, ignore_result=ignore_result, timeout_sec=timeout_sec)
    return None


def register_callback(function_name: str, callback: Callable[..., Any]) -> None:
    """Let scripts of the page call a function."""
    _faults.begin("output.register_callback", function_name=function_name, callback=callback)


def no_vertical_scroll() -> None:
    """Let the output be as high as it is."""
    _faults.begin("output.no_vertical_scroll")


def serve_kernel_port_as_iframe(
    port: int,
    path: str = "/",
    width: str = "100%",
    height: str = "400",
    cache_in_notebook: bool = False,
) -> None:
    """Show what a server of the runtime serves."""
    _faults.begin(
        "output.serve_kernel_port_as_iframe",
        port=port,
        path=path,
        width=width,
        height=height,
        cache_in_notebook=cache_in_notebook,
    )
