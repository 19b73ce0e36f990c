"""The queue in front of the model: batches, waiting times, limits, stopping."""

import asyncio

import numpy as np
from service_graph import Graph, make_signature

from cgan_tf.export.serving import batching, errors
from cgan_tf.export.serving.metrics import Metrics


def in_a_queue(work, wait_s=0.0, max_queue=100):
    """Runs `work(ask, graph)`; `ask(*values)` starts a request and returns its task.

    `ask.batcher` is the batcher. Returns the inputs of each run of the model.
    """
    graph = Graph()

    async def everything():
        signature = make_signature(graph)
        other = make_signature(graph)
        batcher = batching.Batcher(4, wait_s, max_queue, Metrics())

        def ask(*values, timeout_s=30.0, other_signature=False):
            return asyncio.create_task(
                batcher.predict(
                    other if other_signature else signature,
                    {"x": np.array(values, np.float32)},
                    timeout_s,
                )
            )

        ask.batcher = batcher
        try:
            await work(ask, graph)
        finally:
            graph.free.set()
            await batcher.close()

    asyncio.run(everything())
    return graph.runs


async def hold(ask, graph):
    """Sends a request that keeps the model busy until `graph.free` is set."""
    graph.free.clear()
    first = ask(100)
    await asyncio.to_thread(graph.begun.wait, 30)
    return first


async def answers(*tasks):
    """Each task's answer: a list of values, or the code of its error."""
    done = await asyncio.gather(*tasks, return_exceptions=True)
    return [
        one.code.name if isinstance(one, errors.RequestError) else one["y"].tolist() for one in done
    ]


def test_waiting_requests_run_together_in_order():
    async def work(ask, graph):
        tasks = [await hold(ask, graph), ask(1), ask(2, 3), ask(4, 5), ask(6)]
        await asyncio.sleep(0)
        graph.free.set()
        assert await answers(*tasks) == [[200], [2], [4, 6], [8, 10], [12]]

    # (4, 5) does not fit any more; 6 would, but must not overtake it.
    assert in_a_queue(work) == [[100], [1, 2, 3], [4, 5, 6]]


def test_other_signatures_wait_for_their_own_batch():
    async def work(ask, graph):
        tasks = [await hold(ask, graph), ask(1), ask(2, other_signature=True), ask(3)]
        await asyncio.sleep(0)
        graph.free.set()
        assert await answers(*tasks) == [[200], [2], [4], [6]]

    assert in_a_queue(work) == [[100], [1, 3], [2]]


def test_a_refused_batch_is_halved_until_the_invalid_request_is_alone():
    async def work(ask, graph):
        tasks = [await hold(ask, graph), ask(1), ask(2), ask(-3), ask(4)]
        await asyncio.sleep(0)
        graph.free.set()
        assert await answers(*tasks) == [[200], [2], [4], "INVALID_ARGUMENT", [8]]
        assert str(tasks[3].exception()) == "double: a negative value"

    assert in_a_queue(work) == [[100], [1, 2, -3, 4], [1, 2], [-3, 4], [-3], [4]]


def test_a_result_that_is_not_finite_fails_only_its_own_request():
    async def work(ask, graph):
        tasks = [await hold(ask, graph), ask(1), ask(3e38), ask(4)]
        await asyncio.sleep(0)
        graph.free.set()
        assert await answers(*tasks) == [[200], [2], "INVALID_ARGUMENT", [8]]

    assert len(in_a_queue(work)) == 2


def test_a_full_queue_refuses():
    async def work(ask, graph):
        tasks = [await hold(ask, graph), ask(1), ask(2), ask(3)]
        await asyncio.sleep(0)
        graph.free.set()
        assert await answers(*tasks) == [[200], [2], [4], "UNAVAILABLE"]
        assert str(tasks[3].exception()) == (
            "2 requests are waiting already (--max_queue); try again later"
        )
        assert tasks[3].exception().http_status == 503

    assert in_a_queue(work, max_queue=2) == [[100], [1, 2]]


def test_timed_out_and_cancelled_requests_do_not_run():
    async def work(ask, graph):
        first = await hold(ask, graph)
        late, gone, patient = ask(1, timeout_s=0.01), ask(2), ask(3)
        await asyncio.sleep(0)
        gone.cancel()
        assert await answers(late) == ["DEADLINE_EXCEEDED"]
        assert late.exception().http_status == 504
        graph.free.set()
        assert await answers(first, patient) == [[200], [6]]

    assert in_a_queue(work) == [[100], [3]]


def test_a_batch_may_wait_to_fill():
    async def work(ask, graph):
        one = ask(1)
        await asyncio.sleep(0.01)
        assert graph.runs == []
        assert await answers(one, ask(2), ask(3, 4)) == [[2], [4], [6, 8]]

    assert in_a_queue(work, wait_s=30) == [[1, 2, 3, 4]]


def test_other_signatures_do_not_wait_for_new_traffic():
    """A batch leaves a request for another signature behind, and nothing else comes."""

    async def work(ask, graph):
        tasks = [ask(1, timeout_s=5), ask(2, other_signature=True, timeout_s=5)]
        assert await answers(*tasks) == [[2], [4]]

    assert in_a_queue(work, wait_s=0.05) == [[1], [2]]


def test_a_request_that_does_not_fit_does_not_wait_for_new_traffic():
    async def work(ask, graph):
        tasks = [ask(1, 2, 3, timeout_s=5), ask(4, 5, timeout_s=5)]
        assert await answers(*tasks) == [[2, 4, 6], [8, 10]]

    assert in_a_queue(work, wait_s=0.05) == [[1, 2, 3], [4, 5]]


def test_each_request_has_its_own_waiting_time():
    """The time a request may wait starts when it comes, not when the batch before it ends."""

    async def work(ask, graph):
        loop = asyncio.get_running_loop()
        first = await hold(ask, graph)  # runs once it has waited alone
        waited = ask(1, timeout_s=5)
        await asyncio.sleep(0.25)
        late, start = ask(2, other_signature=True, timeout_s=5), loop.time()
        await asyncio.sleep(0)
        graph.free.set()
        assert await answers(first, waited) == [[200], [2]]
        assert await answers(late) == [[4]]
        assert loop.time() - start > 0.19

    assert in_a_queue(work, wait_s=0.2) == [[100], [1], [2]]


def test_a_full_batch_does_not_wait_behind_another_signature():
    async def work(ask, graph):
        one, full = ask(1), ask(2, 3, 4, 5, other_signature=True, timeout_s=5)
        assert await answers(full) == [[4, 6, 8, 10]]
        assert not one.done()
        assert await answers(one, ask(6, 7, 8)) == [[2], [12, 14, 16]]

    assert in_a_queue(work, wait_s=30) == [[2, 3, 4, 5], [1, 6, 7, 8]]


def test_a_cancelled_request_does_not_shorten_the_next_ones_wait():
    async def work(ask, graph):
        loop = asyncio.get_running_loop()
        gone = ask(1)
        await asyncio.sleep(0.15)
        other, start = ask(2, timeout_s=5), loop.time()
        await asyncio.sleep(0)
        gone.cancel()
        assert await answers(other) == [[4]]
        assert loop.time() - start > 0.19
        late = ask(3, timeout_s=5)  # the queue has been empty
        assert await answers(late) == [[6]]

    assert in_a_queue(work, wait_s=0.2) == [[2], [3]]


def test_cancelled_and_timed_out_requests_take_no_place_in_the_queue():
    async def work(ask, graph):
        first = await hold(ask, graph)
        late, gone = ask(1, timeout_s=0.01), ask(2)
        assert await answers(late) == ["DEADLINE_EXCEEDED"]
        gone.cancel()
        await asyncio.wait([gone])
        tasks = [first, ask(3), ask(4)]
        await asyncio.sleep(0)
        graph.free.set()
        assert await answers(*tasks) == [[200], [6], [8]]

    assert in_a_queue(work, max_queue=2) == [[100], [3, 4]]


def test_batches_do_not_wait_to_fill_while_the_server_stops():
    async def work(ask, graph):
        one = ask(1, timeout_s=5)
        await asyncio.sleep(0.01)
        assert graph.runs == []
        ask.batcher.drain()
        assert await answers(one) == [[2]]
        assert await answers(ask(2, timeout_s=5)) == [[4]]

    assert in_a_queue(work, wait_s=30) == [[1], [2]]


def test_closing_answers_the_running_batch_and_refuses_the_rest():
    async def work(ask, graph):
        running, waiting = await hold(ask, graph), ask(1)
        await asyncio.sleep(0)
        closing = asyncio.create_task(ask.batcher.close())
        assert await answers(waiting, ask(2)) == ["UNAVAILABLE", "UNAVAILABLE"]
        assert str(waiting.exception()) == "the server is stopping; try again later"
        graph.free.set()
        assert await answers(running) == [[200]]
        await closing

    assert in_a_queue(work) == [[100]]
