"""The meaning of every shared metric; metrics of a bonus or an agent carry their own prefix (`rnd/`, `ppo/`)."""

METRICS = {
    "return": "mean undiscounted extrinsic return of the episodes that finished in the iteration, as they were played "
    "(training policy); NaN when none finished, which is not divergence",
    "length": "mean length, in steps, of the episodes that finished in the iteration; NaN when none finished",
    "episodes": "number of episodes that finished in the iteration",
    "bonus_mean": "mean bonus over the iteration's transitions, before its coefficient",
    "bonus_raw_mean": "the same before the bonus was normalised, for bonuses that are",
    "bonus_raw_max": "largest bonus before it was normalised, for bonuses that are",
    "bonus_max": "largest bonus over the iteration's transitions, before its coefficient",
    "coverage": "fraction of the environment's named states visited so far in training, all its environments together",
    "first_visit": "mean, over the named states, of the environment step at which each was first acted in; the "
    "present step for those that were not yet",
    "bonus_count_correlation": "Pearson correlation, over the iteration's transitions that end no episode, of the "
    "bonus with 1 / sqrt(n + 1), n the exact number of visits before the iteration to the state arrived at; NaN if "
    "either is constant",
    "finite": "1 while losses, bonuses and parameters are finite; the first 0 marks the lane as diverged",
    "eval_return": "mean return of a fixed number of fresh episodes, greedy actions, fresh memory",
    "eval_return_sampled": "the same with sampled actions",
    "solved": "1 when eval_return reaches the threshold that the environment names, else 0; NaN if it names none",
}
