"""The product: poll, decode, align to closed ticks, account for every record."""

from __future__ import annotations

from benchmarks.stream.chain import open_chain
from benchmarks.stream.jobs import Job, measure
from flows.settings import Settings
from fusion.plant import parse_plant


def main() -> None:
    """Run the job of the command line."""
    job = Job.from_command_line()
    settings = Settings(broker="kafka", kafka_bootstrap=job.bootstrap)
    plants = [parse_plant(text, origin="the job") for text in job.plants]
    with open_chain(settings, plants, group=job.group) as chain:

        def step() -> tuple[int, int, int]:
            took = chain.step()
            num_bytes = sum(len(record.value) for record in took.records)
            return len(took.records), num_bytes, len(took.closed)

        answer = measure(job, restart=chain.restart, step=step)
        counts = chain.total()
    assert counts.read == job.num_records, "every record is accounted for"
    assert not counts.dead_lettered, "every record can be used"
    answer.tell()


if __name__ == "__main__":
    main()
