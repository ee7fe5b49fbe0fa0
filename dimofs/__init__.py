"""dimofs: poses, tracks and motion from video by Discriminative Motion Features (Bertasius et al.).

    import dimofs

    model = dimofs.load()
    result = model("photo.jpg")
    result.plot().save("out.png")
    for result in model.track("x.mp4"):
        print(result.time, result.ids, result.joints["left_wrist"])

The names of `__all__` are the Python interface. They are imported when they are first used, so that `import dimofs`
takes no time and no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dimofs.cli import InputError as InputError
    from dimofs.detections import Detections as Detections
    from dimofs.motion import Motion as Motion
    from dimofs.picture import Picture as Picture
    from dimofs.results import Result as Result
    from dimofs.zoo.predictor import Model as Model
    from dimofs.zoo.predictor import PersonTracker as PersonTracker
    from dimofs.zoo.predictor import load as load

__version__ = "0.1.0"

_HOMES = {
    "Detections": "dimofs.detections",
    "InputError": "dimofs.cli",
    "Model": "dimofs.zoo.predictor",
    "Motion": "dimofs.motion",
    "PersonTracker": "dimofs.zoo.predictor",
    "Picture": "dimofs.picture",
    "Result": "dimofs.results",
    "load": "dimofs.zoo.predictor",
}
__all__ = ["Detections", "InputError", "Model", "Motion", "PersonTracker", "Picture", "Result", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(_HOMES)}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
