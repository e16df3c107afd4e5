"""Intrinsic rewards, one file per method. This module names them and imports none."""

CATALOGUE = {
    "none": "jaxrl.intrinsic.none:none",
    "count": "jaxrl.intrinsic.count:count",
    "episodic_count": "jaxrl.intrinsic.episodic_count:episodic_count",
    "rnd": "jaxrl.intrinsic.rnd:rnd",
    "e3b": "jaxrl.intrinsic.e3b:e3b",
}
