"""The thread pool of libraries, under sanitizers that see every race, leak and overrun; and races that only timing brings about."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from stack.emit.native import RUNTIME
from stack.emit.parallel_units import UNITS

DRIVER = r"""
#include "runtime.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct group { void *sync; int32_t tasks; };
typedef int (*closure)(int, struct group *, void *);
extern int (*__TVMBackendParallelLaunch)(closure, void *, int);
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void *);

#define CHECK(ok) do { if (!(ok)) { fprintf(stderr, "line %d: %s\n", __LINE__, #ok); abort(); } } while (0)
enum { SIZE = 1000 };
struct job { int source[SIZE], result[SIZE], add, fail_at, depth; };

/* result[i] = source[i] + add, shared out as kernels do it. */
static int body(int task, struct group *group, void *data) {
  struct job *job = data;
  int units = (STACK_UNITS + group->tasks - 1) / group->tasks;
  for (int i = task * units * SIZE / STACK_UNITS; i < (task + 1) * units * SIZE / STACK_UNITS; ++i) {
    if (i == job->fail_at) return 7;
    job->result[i] = job->source[i] + job->add;
  }
  return 0;
}

/* Inside a parallel loop, another one; scratch memory around it. */
static int nested(int task, struct group *group, void *data) {
  struct job *jobs = data;
  int units = (STACK_UNITS + group->tasks - 1) / group->tasks;
  for (int k = task * units * 4 / STACK_UNITS; k < (task + 1) * units * 4 / STACK_UNITS; ++k) {
    int *first = __TVMBackendAllocWorkspace(1, 0, 4 * SIZE, 0, 32), *second = __TVMBackendAllocWorkspace(1, 0, 9 + 5000 * k, 0, 8);
    CHECK(first && second && (uintptr_t)first % 64 == 0 && (uintptr_t)second % 64 == 0);
    memset(second, k, 9 + 5000 * (size_t)k);
    if (__TVMBackendParallelLaunch(body, &jobs[k], 0)) return 8;
    memcpy(first, jobs[k].result, sizeof jobs[k].result);
    CHECK(first[3] == jobs[k].source[3] + jobs[k].add);
    CHECK(__TVMBackendFreeWorkspace(1, 0, second) == 0 && __TVMBackendFreeWorkspace(1, 0, first) == 0);
  }
  return 0;
}

static void fill(struct job *job, int seed) {
  job->add = seed, job->fail_at = -1;
  for (int i = 0; i < SIZE; ++i) job->source[i] = seed * i, job->result[i] = -1;
}

static void expect(const struct job *job) {
  for (int i = 0; i < SIZE; ++i) CHECK(job->result[i] == job->source[i] + job->add);
}

static void rounds(struct stack_pool *pool, int count) {
  struct job *jobs = calloc(4, sizeof *jobs);
  stack_pool_use(pool);
  for (int n = 0; n < count; ++n) { /* each writes what the next one reads, without a lock of its own */
    fill(&jobs[0], n);
    CHECK(__TVMBackendParallelLaunch(body, &jobs[0], 0) == 0);
    fill(&jobs[1], n + 1);
    memcpy(jobs[1].source, jobs[0].result, sizeof jobs[0].result);
    CHECK(__TVMBackendParallelLaunch(body, &jobs[1], 0) == 0);
    expect(&jobs[0]), expect(&jobs[1]);
    if (n % 8 == 3) {
      jobs[0].fail_at = (n * 37) % SIZE;
      CHECK(__TVMBackendParallelLaunch(body, &jobs[0], 0) == 7);
      jobs[0].fail_at = -1;
      CHECK(__TVMBackendParallelLaunch(body, &jobs[0], 0) == 0); /* a failure is forgotten */
    }
    if (n % 8 == 5) {
      for (int k = 0; k < 4; ++k) fill(&jobs[k], n + k);
      CHECK(__TVMBackendParallelLaunch(nested, jobs, 0) == 0);
      for (int k = 0; k < 4; ++k) expect(&jobs[k]);
    }
  }
  stack_pool_use(NULL);
  free(jobs);
}

static struct stack_pool *shared;
static int scale;
static void *share(void *unused) { (void)unused; rounds(shared, 20 * scale); return NULL; }
static void *alone(void *threads) {
  struct stack_pool *pool = stack_pool_new((int)(intptr_t)threads);
  rounds(pool, 10 * scale);
  stack_pool_free(pool);
  return NULL;
}

static void in_threads(void *(*run)(void *), int count) {
  pthread_t threads[8];
  for (int k = 0; k < count; ++k) CHECK(pthread_create(&threads[k], NULL, run, (void *)(intptr_t)(k + 1)) == 0);
  for (int k = 0; k < count; ++k) pthread_join(threads[k], NULL);
}

int main(int argc, char **argv) {
  scale = argc > 1 ? atoi(argv[1]) : 1;
  rounds(NULL, 10); /* no pool: everything on this thread */
  int threads[] = {-1, 0, 1, 2, 3, 8};
  for (int k = 0; k < 6; ++k) {
    struct stack_pool *pool = stack_pool_new(threads[k]);
    rounds(pool, 20 * scale);
    stack_pool_free(pool);
  }
  struct stack_pool *a = stack_pool_new(2), *b = stack_pool_new(3);
  for (int n = 0; n < 5; ++n) rounds(a, 2), rounds(b, 3); /* two models take turns on one thread */
  stack_pool_free(a), stack_pool_free(b);
  in_threads(alone, 3); /* as many pools as threads */
  shared = stack_pool_new(3);
  in_threads(share, 3); /* one pool for all */
  stack_pool_free(shared);
  stack_pool_free(NULL);
  return 0;
}
"""

OPEN_AND_CLOSE = r"""
#include "runtime.h"
#include <stdint.h>
#include <stdlib.h>
struct group { void *sync; int32_t tasks; };
extern int (*__TVMBackendParallelLaunch)(int (*)(int, struct group *, void *), void *, int);
static int nothing(int task, struct group *group, void *data) { (void)task, (void)group, (void)data; return 0; }
int main(int argc, char **argv) {
  for (int n = argc > 1 ? atoi(argv[1]) : 1; n > 0; --n) {
    struct stack_pool *pool = stack_pool_new(5);
    stack_pool_use(pool);
    for (int k = n % 4; k > 0; --k) __TVMBackendParallelLaunch(nothing, 0, 0);
    stack_pool_use(NULL);
    stack_pool_free(pool);
  }
  return 0;
}
"""


def build(source: str, folder: Path, *flags: str, pool: Path = RUNTIME / "pool.c") -> Path:
    """The driver with the pool, or a skip where this compiler lacks a sanitizer."""
    (folder / "driver.c").write_text(source)
    command = ["cc", "-std=gnu11", "-g", "-pthread", "-Wall", "-Wextra", "-Werror", f"-I{RUNTIME}", *flags]
    done = subprocess.run([*command, str(folder / "driver.c"), str(pool), "-o", str(folder / "driver")], capture_output=True, text=True)
    if done.returncode and any(flag.startswith("-fsanitize") for flag in flags) and "cannot find" in done.stderr:
        pytest.skip("the C compiler has no sanitizers")
    assert done.returncode == 0, done.stderr
    return folder / "driver"


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_no_sanitizer_complains(sanitizer, tmp_path):
    driver = build(DRIVER, tmp_path, "-O1", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    # addresses must be where the sanitizers expect them, which some kernels' randomisation denies
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    done = subprocess.run(
        [*fixed, str(driver)], capture_output=True, text=True, timeout=120, env={**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    )
    if "personality" in done.stderr:  # setarch itself is not allowed here
        done = subprocess.run([str(driver)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]


def test_kernels_have_as_many_parts_as_the_pool_shares_out():
    assert f"enum {{ STACK_UNITS = {UNITS} }};" in (RUNTIME / "runtime.h").read_text()


def test_results_are_right_at_full_speed(tmp_path):
    subprocess.run([str(build(DRIVER, tmp_path, "-O2")), "10"], check=True, timeout=120)


@pytest.mark.parametrize(
    "behind",
    [
        pytest.param("if (code) atomic_store(&pool->failed, code);", id="done with a task"),
        pytest.param("struct group group = {0, UNITS / size};", id="took a task"),
        pytest.param("int count = take_tasks(pool, mine->own, seen);", id="done with a round"),
        pytest.param("seen = atomic_load(&pool->round);", id="about to take tasks"),
        pytest.param("if (spun == TIRED) {", id="about to sleep"),
        pytest.param("pool->data = data;", id="about to start a round"),
    ],
)
def test_a_thread_may_be_put_aside_anywhere(behind, tmp_path):
    """The system takes the processor away at the place where that would matter most; a worker that misses the end waits for ever."""
    text = (RUNTIME / "pool.c").read_text()
    assert text.count(behind) == 1, "the pool changed: choose the place anew"
    slow = tmp_path / "slow.c"
    slow.write_text(text.replace(behind, behind + "\n sched_yield(), rand() % 8 ? 0 : usleep(50);"))
    driver = build(OPEN_AND_CLOSE, tmp_path, "-O2", "-D_GNU_SOURCE", pool=slow)
    subprocess.run([str(driver), "80"], check=True, timeout=60)
