"""Training loops, one file each. This module names them and imports none.

A factory may ask the builder for any of `SUPPLIED` by naming it; its other parameters are fields of the run under the
trainer's name, as in ``selmo.mixture``, swept if positional and static if keyword-only.
"""

CATALOGUE = {
    "on_policy": "jaxrl.trainers.on_policy:on_policy",
    "selmo": "jaxrl.trainers.selmo:selmo",
    "adversarial_surprise": "jaxrl.trainers.adversarial_surprise:adversarial_surprise",
}
SUPPLIED = (
    "task",  # to train on
    "agent",  # that samples its actions; its streams are those of `combine`, or one if the trainer takes no `combine`
    "reward",  # the bonus
    "combine",  # (reward, bonus) -> rewards [T, N, S]
    "num_envs",
    "num_steps",
    "iterations",  # of the whole run
    "discount",  # of the extrinsic return
    "warmup",
    "reward_discount",  # None, or the discount of the return that extrinsic rewards are scaled by
)
