/* A small thread pool, and the entry points that LLVM kernels made by TVM call (tvm/runtime/c_backend_api.h).

   A parallel loop is one closure, called once per task with the task's number; tasks divide the iterations by themselves. There are more
   tasks than threads. Each thread begins with a share of its own, always the same one, so that what it reads is often what it wrote in the
   loop before; then it takes what is left of the others' shares, so a worker that the system has put aside holds nobody up. Workers spin
   for a moment after each loop, since the next one of the same model follows within microseconds, and then sleep on a condition variable.
   A second thread that finds the pool taken runs its loops alone: nobody waits for somebody else's model. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "runtime.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

struct group { void *sync; int32_t tasks; }; /* TVMParallelGroupEnv */
typedef int (*closure)(int task, struct group *group, void *data);

struct share { /* of one thread: the next of its tasks, on a cache line of its own */
  atomic_int next;
  atomic_int core; /* that its thread was last seen on */
  int own;         /* its place among the shares */
  struct stack_pool *pool;
  char apart[40];
};

struct stack_pool {
  int threads;
  pthread_t *workers;
  struct share *shares;
  atomic_flag taken;
  atomic_uint round;
  atomic_int finished, failed, sleeping, closing;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  pid_t process; /* that started the workers: a forked child has none of them */
  int slots;     /* shares, and threads unless the system gave fewer */
  closure run;   /* of the round; changes only while no task is unfinished */
  void *data;
};

_Static_assert(sizeof(struct share) == 64, "a share is a cache line");

static _Thread_local struct stack_pool *current;

enum {
  SPINS = 4000,   /* about a quarter of a millisecond */
  TASKS_EACH = 8, /* small enough tasks to even out two threads, large enough to cost nothing */
};

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  sched_yield();
#endif
}

/* Run tasks until none is left, those of share `own` first. A task that is taken keeps its round open, so the closure stays valid. */
static void take_tasks(struct stack_pool *pool, int own) {
  for (int turn = 0; turn < pool->slots; ++turn) {
    int share = (own + turn) % pool->slots;
    for (;;) {
      int next = atomic_fetch_add(&pool->shares[share].next, 1);
      if (next >= TASKS_EACH) break;
      struct group group = {0, TASKS_EACH * pool->slots};
      int code = pool->run(share * TASKS_EACH + next, &group, pool->data);
      if (code) atomic_store(&pool->failed, code);
      atomic_fetch_add_explicit(&pool->finished, 1, memory_order_release);
    }
  }
}

/* Leave a core that another thread of the pool computes on. The system often wakes a worker on the core of the thread that woke it, and
   takes milliseconds to notice that another core idles: a third of the calls after a pause took twice their time. */
static void step_aside(struct stack_pool *pool, int own) {
  int here = sched_getcpu(), taken = 0;
  atomic_store_explicit(&pool->shares[own].core, here, memory_order_relaxed);
  for (int index = 0; index < own; ++index)
    taken |= atomic_load_explicit(&pool->shares[index].core, memory_order_relaxed) == here;
  cpu_set_t allowed, others;
  if (!taken || here < 0 || sched_getaffinity(0, sizeof allowed, &allowed)) return;
  others = allowed;
  for (int index = 0; index < pool->slots; ++index) {
    int core = atomic_load_explicit(&pool->shares[index].core, memory_order_relaxed);
    if (core >= 0 && core < CPU_SETSIZE) CPU_CLR(core, &others);
  }
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others)) return;
  atomic_store_explicit(&pool->shares[own].core, sched_getcpu(), memory_order_relaxed);
  sched_setaffinity(0, sizeof allowed, &allowed); /* it may go where it likes again */
}

static void *work(void *argument) {
  struct share *mine = argument;
  struct stack_pool *pool = mine->pool;
  unsigned seen = 0;
  for (;;) {
    int spins = 0;
    while (atomic_load_explicit(&pool->round, memory_order_acquire) == seen) {
      if (++spins < SPINS) { relax(); continue; }
      pthread_mutex_lock(&pool->lock);
      atomic_fetch_add(&pool->sleeping, 1);
      while (atomic_load(&pool->round) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
      atomic_fetch_sub(&pool->sleeping, 1);
      pthread_mutex_unlock(&pool->lock);
    }
    seen = atomic_load(&pool->round);
    step_aside(pool, mine->own);
    take_tasks(pool, mine->own);
    if (atomic_load(&pool->closing)) return NULL;
  }
}

static void start_round(struct stack_pool *pool) {
  atomic_fetch_add(&pool->round, 1);
  if (atomic_load(&pool->sleeping)) {
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
  }
}

struct stack_pool *stack_pool_new(int threads) {
  struct stack_pool *pool = calloc(1, sizeof *pool);
  if (!pool) return NULL;
  pool->threads = 1;
  pool->slots = threads > 1 ? threads : 1;
  pool->process = getpid();
  atomic_flag_clear(&pool->taken);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  pool->workers = calloc((size_t)pool->slots, sizeof *pool->workers);
  pool->shares = aligned_alloc(sizeof *pool->shares, (size_t)pool->slots * sizeof *pool->shares);
  if (!pool->workers || !pool->shares) return pool; /* which then computes on the calling thread */
  for (int index = 0; index < pool->slots; ++index) {
    pool->shares[index].own = index;
    pool->shares[index].pool = pool;
    atomic_init(&pool->shares[index].next, TASKS_EACH); /* nothing to take before the first round */
    atomic_init(&pool->shares[index].core, -1);
  }
  for (int index = 1; index < pool->slots; ++index) {
    if (pthread_create(&pool->workers[index], NULL, work, &pool->shares[index])) break;
    pool->threads = index + 1; /* fewer than asked for where the system gives no more: the others take their shares */
  }
  return pool;
}

void stack_pool_free(struct stack_pool *pool) {
  if (!pool || pool->process != getpid()) return;
  atomic_store(&pool->closing, 1);
  start_round(pool); /* with no task to take */
  for (int index = 1; index < pool->threads; ++index) pthread_join(pool->workers[index], NULL);
  pthread_mutex_destroy(&pool->lock);
  pthread_cond_destroy(&pool->wake);
  free(pool->workers);
  free(pool->shares);
  free(pool);
}

void stack_pool_use(struct stack_pool *pool) { current = pool && pool->process == getpid() ? pool : NULL; }

static int parallel_launch(closure run, void *data, int tasks) {
  struct stack_pool *pool = current;
  (void)tasks; /* always 0: as many as there are threads */
  if (!pool || pool->threads == 1 || atomic_flag_test_and_set(&pool->taken)) {
    struct group alone = {0, 1};
    return run(0, &alone, data);
  }
  pool->run = run;
  pool->data = data;
  atomic_store(&pool->failed, 0);
  atomic_store(&pool->finished, 0);
  for (int index = 0; index < pool->slots; ++index) atomic_store(&pool->shares[index].next, 0); /* a late worker may begin here already */
  atomic_store_explicit(&pool->shares[0].core, sched_getcpu(), memory_order_relaxed);
  start_round(pool);
  current = NULL; /* a parallel loop inside a parallel loop stays on its thread */
  take_tasks(pool, 0);
  current = pool;
  for (int spins = 0; atomic_load_explicit(&pool->finished, memory_order_acquire) < TASKS_EACH * pool->slots; ++spins)
    if (spins < SPINS) relax(); else sched_yield();
  int code = atomic_load(&pool->failed);
  atomic_flag_clear(&pool->taken);
  return code;
}

static int parallel_barrier(int task, struct group *group) { (void)task; (void)group; return -1; /* no rule emits one */ }

/* Scratch memory of a kernel, freed in the reverse order of allocation, so each thread keeps a stack of blocks. */
enum { DEPTH = 64 };
struct scratch { int depth; struct { void *memory; size_t bytes; } block[DEPTH]; };
static _Thread_local struct scratch *scratch;
static pthread_key_t scratch_key; /* only frees it when its thread ends; a process has 1024 of these, so it may be missing */
static int scratch_has_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void scratch_free(void *argument) {
  struct scratch *old = argument;
  for (int i = 0; i < DEPTH; ++i) free(old->block[i].memory);
  free(old);
}
static void scratch_init(void) { scratch_has_key = pthread_key_create(&scratch_key, scratch_free) == 0; }

static void *workspace_alloc(int type, int id, uint64_t bytes, int code, int bits) {
  (void)type; (void)id; (void)code; (void)bits;
  if (!scratch) {
    if (!(scratch = calloc(1, sizeof *scratch))) return NULL;
    pthread_once(&scratch_once, scratch_init);
    if (scratch_has_key) pthread_setspecific(scratch_key, scratch);
  }
  if (scratch->depth == DEPTH) return NULL;
  int slot = scratch->depth;
  if (scratch->block[slot].bytes < bytes) {
    size_t rounded = (bytes + 4095) / 4096 * 4096;
    free(scratch->block[slot].memory);
    scratch->block[slot].memory = aligned_alloc(64, rounded);
    scratch->block[slot].bytes = scratch->block[slot].memory ? rounded : 0;
    if (!scratch->block[slot].memory) return NULL;
  }
  ++scratch->depth;
  return scratch->block[slot].memory;
}

static int workspace_free(int type, int id, void *memory) {
  (void)type; (void)id;
  if (!scratch || scratch->depth == 0 || scratch->block[scratch->depth - 1].memory != memory) return -1;
  --scratch->depth;
  return 0;
}

/* LLVM kernels reach the runtime through these pointers, null in their object files and strong here. */
int (*__TVMBackendParallelLaunch)(closure, void *, int) = parallel_launch;
int (*__TVMBackendParallelBarrier)(int, struct group *) = parallel_barrier;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = workspace_alloc;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = workspace_free;
