"""Where a log ends: at its cap while the step goes on, and though somebody still holds the pipe."""

import asyncio

from tests.integration.log_collector.steps import quick
from tests.integration.logs.machine import Place
from tests.integration.logs.reading import overspill, read


async def test_over_its_cap_a_step_goes_on_and_every_door_says_what_was_dropped(place: Place) -> None:
    place.log_limit_bytes = 100_000
    spec = {"steps": [{"run": "head -c 3000000 /dev/zero; touch went-on; exit 7"}, {"run": "true", "if": "always()"}]}
    async with place.collecting(quick()):
        attempt = await place.start(spec)
        ended = await place.ended(attempt)
        await place.told(attempt)
        assert (ended.outcome, ended.step, ended.exit_code) == ("failed", 1, 0)
        assert (attempt.directory.work / "went-on").exists()
        said = b"\nThe log limit of 100000 bytes is reached; what follows is dropped.\n"
        said += b"The log limit dropped 2900000 bytes.\n"
        answer = await read(place, attempt.job, step=1)
        assert answer.content == bytes(100_000) + said
        assert answer.headers["overspill-log-complete"] == "true"
        step = (await place.gateway.get(f"/v1/jobs/{attempt.job}")).json()["steps"][0]
        assert (step["exit_code"], step["log_bytes"]) == (7, 100_000 + len(said))
        assert step["log_dropped_bytes"] == 2_900_000
        shown = (await overspill(place, "show", attempt.job)).decode()
        assert "its limit dropped 2.8 MiB" in " ".join(shown.split())


HOLDERS = {
    "a background command": "sleep 300 &",
    "a daemon in a session of its own": "setsid sleep 300 &",
    "a daemon that goes on writing": "setsid sh -c 'while :; do echo noise; sleep 0.01; done' &",
    "a daemon that ignores SIGTERM": "setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 1; done' &",
    "a grandchild whose parents are gone": "(setsid sh -c 'setsid sleep 300 & exec true' &)",
}


async def test_who_holds_the_pipe_does_not_keep_a_log_open(place: Place) -> None:
    steps = [{"name": who, "run": f"echo before\n{how}\necho done"} for who, how in HOLDERS.items()]
    async with place.collecting(quick()):
        attempt = await place.start({"steps": steps})
        assert (await place.ended(attempt)).outcome == "succeeded"
        await place.told(attempt)
        for number, who in enumerate(HOLDERS, start=1):
            answer = await read(place, attempt.job, step=number)
            assert [line for line in answer.text.splitlines() if line != "noise"] == ["before", "done"], who
            assert answer.headers["overspill-log-complete"] == "true"
        async with asyncio.timeout(60):
            for process in attempt.entrypoints:
                assert await asyncio.to_thread(process.wait) == 0


async def test_a_background_steps_log_is_whole_when_it_is_ended(place: Place) -> None:
    serving = "trap 'echo asked to end; exit 0' TERM; echo up; touch serving; while :; do sleep 0.05; done"
    spec = {"steps": [{"run": serving, "background": True, "ready": "test -f serving"}, {"run": "echo work"}]}
    async with place.collecting(quick()):
        attempt = await place.start(spec)
        assert (await place.ended(attempt)).outcome == "succeeded"
        await place.told(attempt)
        lines = (await read(place, attempt.job, step=1)).text.splitlines()
        assert (lines[0], lines[-1]) == ("up", "asked to end")
        assert (await read(place, attempt.job, step=2)).text == "work\n"
