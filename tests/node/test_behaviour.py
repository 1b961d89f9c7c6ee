"""The behaviour suite where jobs are real pods. What is left out, and why, says tests/README.md."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.behaviour.conftest import server as server  # noqa: PLC0414 - a fixture of this module too
from tests.behaviour.test_cancel import (  # noqa: F401 - run here, in this module's place
    test_a_job_that_has_ended_well_stays_so,
    test_a_running_step_is_ended_and_no_other_begins,
    test_all_that_counts_had_gone_well_and_only_a_background_step_takes_its_time,
    test_between_two_steps_nothing_more_begins,
    test_between_two_tries_no_further_one_begins,
    test_cancelled_twice_and_again_after_its_end_it_has_one_end,
    test_only_a_background_step_runs_and_is_not_ready_yet,
    test_while_artifacts_are_stored,
    test_while_the_source_is_fetched,
)
from tests.behaviour.test_hold_and_drain import (  # noqa: F401 - run here, in this module's place
    test_a_hold_keeps_the_next_step_and_its_end_lets_it_go,
    test_a_job_that_is_held_can_be_cancelled,
    test_a_job_whose_machine_or_node_is_drained_is_evicted_with_time_to_say_a_last_word,
)
from tests.behaviour.test_steps import (  # noqa: F401 - run here, in this module's place
    test_a_background_step_that_dies_of_itself_fails_the_job,
    test_a_background_step_whose_daemon_holds_the_pipe_hangs_nothing,
    test_a_daemon_in_a_session_of_its_own_goes_with_its_step,
    test_a_daemon_that_holds_the_pipe_hangs_nothing,
    test_a_hundred_steps_run_in_turn_each_with_its_own_log,
    test_a_signal_is_told_with_its_number,
    test_a_step_over_its_own_timeout_is_the_one_that_failed,
    test_a_step_that_a_signal_ends_fails_the_job,
    test_closed_output_is_no_end,
    test_every_exit_code_is_told_as_it_was,
    test_the_first_failing_code_is_the_jobs,
    test_the_jobs_timeout_ends_what_runs_and_what_would_follow,
    test_who_ignores_sigterm_is_killed_after_the_grace,
)
from tests.conftest import BusServer
from tests.node.kube_place import KubePlace, kube_place
from tests.node.node import Node

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(server: BusServer, node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubePlace]:
    async with kube_place(server, tmp_path_factory.mktemp("place"), node) as made:
        yield made
