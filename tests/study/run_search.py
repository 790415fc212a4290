"""A search as its own process, for tests that kill it: `python run_search.py study.db '{"workers": 2, ...}'`."""

from __future__ import annotations

import json
import sys

if __name__ == "__main__":
    import study_fakes as fakes

    import nasturtium as nas

    path, options = sys.argv[1], json.loads(sys.argv[2])
    fake = fakes.Fake(**options.pop("fake", {}))
    strategy = fakes.Climber(**options.pop("climber", {}))
    arguments = {"maximize": "accuracy", "minimize": "macs", "trials": 10, **options}
    try:
        study = nas.search(fakes.space(), "digits", strategy=strategy, estimator=fake, study=path, **arguments)
    except nas.errors.NasturtiumError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt as stop:
        print(stop, flush=True)
        sys.exit(130)
    print(len(study.trials), flush=True)
