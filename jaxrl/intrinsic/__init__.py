"""Intrinsic rewards, one file per method. This module names them and imports none; `check_bonus` tests any."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrl.intrinsic.check import check_bonus as check_bonus

CATALOGUE = {
    "none": "jaxrl.intrinsic.none:none",
    "count": "jaxrl.intrinsic.count:count",
    "episodic_count": "jaxrl.intrinsic.episodic_count:episodic_count",
    "simhash": "jaxrl.intrinsic.simhash:simhash",
    "cfn": "jaxrl.intrinsic.cfn:cfn",
    "rnd": "jaxrl.intrinsic.rnd:rnd",
    "rdd": "jaxrl.intrinsic.rdd:rdd",
    "e3b": "jaxrl.intrinsic.e3b:e3b",
    "icm": "jaxrl.intrinsic.icm:icm",
    "disagreement": "jaxrl.intrinsic.disagreement:disagreement",
    "forward_error": "jaxrl.intrinsic.forward_error:forward_error",
    "ride": "jaxrl.intrinsic.ride:ride",
    "noveld": "jaxrl.intrinsic.noveld:noveld",
    "byol_explore": "jaxrl.intrinsic.byol_explore:byol_explore",
    "deir": "jaxrl.intrinsic.deir:deir",
    "ngu": "jaxrl.intrinsic.ngu:ngu",
    "re3": "jaxrl.intrinsic.re3:re3",
    "apt": "jaxrl.intrinsic.apt:apt",
    "airs": "jaxrl.intrinsic.airs:airs",
}
# What a combinator cannot do with fewer bonuses; one is enough for any other.
LEAST_PARTS = {"airs": 2}


def __getattr__(name: str) -> Any:
    if name == "check_bonus":
        return importlib.import_module("jaxrl.intrinsic.check").check_bonus
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
