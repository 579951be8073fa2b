"""Scaling: CPU per token, lateness and memory from 100 to 5,000 sessions, below saturation.

Each session streams at --rate tokens a second (5: so that 5,000 sessions are 25,000 tokens a second, which the
baseline can just carry). A server whose cost per token does not depend on the number of sessions shows a flat cpu_us.
Against: the FastAPI design on uvicorn, and every peer in --servers. Plot the JSON with plot.py.
"""

from __future__ import annotations

from functools import partial

from common.catalog import SHORT, choose
from common.process import prepare_load
from common.report import comparison, parser, save
from common.rounds import interleaved
from paced import measure


def main() -> None:
    flags = parser(__doc__, rounds=2, servers=SHORT)
    flags.add_argument("--sessions", nargs="+", type=int, default=[100, 300, 1000, 2000, 3000, 5000])
    flags.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)s)")
    flags.add_argument("--rate", type=float, default=5.0, help="tokens per second and session (%(default)s)")
    options = flags.parse_args()
    prepare_load(max(options.sessions))
    results = {}
    for sessions in options.sessions:
        what = f"scaling {sessions}"
        job = partial(measure, sessions=sessions, seconds=options.seconds, rate=options.rate)
        results[what] = interleaved(choose(options.servers), options.rounds, job, what)
        print(
            f"\n### {sessions} sessions × {options.rate:g} tokens/s\n\n{comparison(results[what], ['cpu_us'])}",
            flush=True,
        )
    save(options.json, results)


if __name__ == "__main__":
    main()
