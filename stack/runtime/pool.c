/* A small thread pool, and the entry points that LLVM kernels made by TVM call (tvm/runtime/c_backend_api.h).

   A parallel loop is one closure over UNITS equal parts of its iterations; called for task t of n, it does the t-th n-th of them, where n
   divides UNITS. Each thread has a share of the parts, the same in every loop, so that what it reads is mostly what it wrote in the loop before: a line that
   lies in another core's cache costs ten times as much. It does half of what is left of its share at once, then half of the rest, and so
   on; when it is through it takes from the others' shares, so a thread that the system has put aside, or slowed down, holds nobody up.

   To start and end a loop costs one line of memory to each worker and one back: the launching thread writes nothing else that the others
   read, and nobody counts together. A share holds the number of the round beside its next part, so that none has to be set back, and a
   worker says only once what it did.

   Workers spin between the loops of one run and for a moment after it, since the next run often follows at once, and then sleep on a
   condition variable. A second thread that finds the pool taken runs its loops alone: nobody waits for somebody else's model. A worker for
   which there is no core left stands aside until there are more: on one core a run is the launching thread's alone. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "runtime.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct group { void *sync; int32_t tasks; }; /* TVMParallelGroupEnv */
typedef int (*closure)(int task, struct group *group, void *data);

enum {
  LINE = 128,    /* bytes that cores fetch from each other at once: two lines of cache */
  UNITS = STACK_UNITS, /* parts of a loop, a power of two */
  LEAST = 16,    /* of a share: what is taken at once gets no smaller than this fraction */
  SPINS = 128,   /* between looks at the clock: one or two microseconds */
  LINGER = 1000, /* microseconds a worker spins after a run, for the next one */
  PATIENCE = 10000, /* and inside one, while its thread computes alone */
  EAGER = 100 * SPINS, /* looks at the others' work before the core is offered to whoever is ready, */
  POLITE = EAGER + 1000, /* and before it is left for a moment, also to those of lower priority */
};

struct share { /* of one thread */
  _Alignas(LINE) _Atomic uint64_t next; /* its round and the part to take next; taken from by every thread */
  int first, end;                       /* parts */
  int own;                              /* its place among the shares */
  struct stack_pool *pool;
  _Alignas(LINE) _Atomic uint64_t done; /* round and parts that its thread did in it, anybody's; written by its thread alone */
  atomic_int core;                      /* that its thread was last seen on */
};

struct stack_pool {
  _Alignas(LINE) atomic_uint round; /* the launching thread writes this line, workers spin on it */
  closure run;                      /* of the round; changes only while no task is unfinished */
  void *data;
  _Alignas(LINE) atomic_flag taken; /* the launching thread's own */
  _Alignas(LINE) atomic_int sleeping; /* from here on nothing changes in every loop */
  atomic_int active, failed, closing;
  atomic_int aside; /* workers without a core, */
  unsigned calls;   /* and how often they were called back; under the lock */
  int threads, slots; /* shares, and threads unless the system gave fewer */
  pthread_t *workers;
  struct share *shares;
  pthread_mutex_t lock;
  pthread_cond_t wake, room;
  pid_t process; /* that started the workers: a forked child has none of them */
};

_Static_assert((UNITS & (UNITS - 1)) == 0, "a task says which parts it does by their number and a power of two");

static _Thread_local struct stack_pool *current;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  sched_yield();
#endif
}

static int64_t microseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

/* How many parts to take of those from `next` to `end`: about half, a power of two that divides `next`, so that a task can say it. */
static int portion(int next, int end, int least) {
  int left = end - next, size = UNITS;
  while (size > 1 && (next % size || size > left || (size > least && 2 * size > left))) size /= 2;
  return size;
}

/* Do parts of `round` until none is left, those of share `own` first; returns how many. Who has taken a part keeps its round open, so the
   closure stays valid. */
static int take_tasks(struct stack_pool *pool, int own, uint32_t round) {
  int count = 0;
  for (int turn = 0; turn < pool->slots; ++turn) {
    struct share *share = &pool->shares[(own + turn) % pool->slots];
    int least = (share->end - share->first) / LEAST;
    uint64_t seen = atomic_load(&share->next);
    for (;;) {
      int32_t ahead = (int32_t)((uint32_t)(seen >> 32) - round); /* below 0: nobody has taken from it in this round */
      int next = ahead < 0 ? share->first : (int)(uint32_t)seen;
      if (ahead > 0 || next >= share->end) break;
      int size = portion(next, share->end, least);
      if (!atomic_compare_exchange_weak(&share->next, &seen, (uint64_t)round << 32 | (uint32_t)(next + size))) continue;
      struct group group = {0, UNITS / size};
      int code = pool->run(next / size, &group, pool->data);
      if (code) atomic_store(&pool->failed, code);
      count += size;
      seen = atomic_load(&share->next);
    }
  }
  return count;
}

/* Cores that this thread may run on; many if the system does not say. */
static int allowed_cores(void) {
  cpu_set_t allowed;
  return sched_getaffinity(0, sizeof allowed, &allowed) ? CPU_SETSIZE : CPU_COUNT(&allowed);
}

/* Whether a thread of the pool other than `own`, among the first `end`, was last seen on core `here`. */
static int crowded(struct stack_pool *pool, int own, int end, int here) {
  int found = 0;
  for (int index = 0; index < end; ++index)
    found |= index != own && atomic_load_explicit(&pool->shares[index].core, memory_order_relaxed) == here;
  return found;
}

/* Leave a core that another thread of the pool computes on. The system often wakes a worker on the core of the thread that woke it, and
   takes milliseconds to notice that another core idles: a third of the calls after a pause took twice their time. Returns whether there
   is no other core. */
static int step_aside(struct stack_pool *pool, int own) {
  int here = sched_getcpu();
  atomic_store_explicit(&pool->shares[own].core, here, memory_order_relaxed);
  cpu_set_t allowed, others;
  if (here < 0 || !crowded(pool, own, own, here)) return 0;
  if (sched_getaffinity(0, sizeof allowed, &allowed)) return 1;
  others = allowed;
  for (int index = 0; index < pool->slots; ++index) {
    int core = atomic_load_explicit(&pool->shares[index].core, memory_order_relaxed);
    if (core >= 0 && core < CPU_SETSIZE) CPU_CLR(core, &others);
  }
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others)) return 1;
  atomic_store_explicit(&pool->shares[own].core, sched_getcpu(), memory_order_relaxed);
  sched_setaffinity(0, sizeof allowed, &allowed); /* it may go where it likes again */
  return 0;
}

enum spun { STARTED, TIRED, CROWDED };

/* Spin until there is a round after `seen`, or that takes too long, or the thread that would start it needs this core. */
static enum spun spin(struct stack_pool *pool, int own, uint32_t seen) {
  int64_t started = microseconds();
  for (;;) {
    for (int spins = 0; spins < SPINS; ++spins) {
      if (atomic_load_explicit(&pool->round, memory_order_acquire) != seen) return STARTED;
      relax();
    }
    int64_t waited = microseconds() - started;
    if (waited >= (atomic_load_explicit(&pool->active, memory_order_relaxed) ? PATIENCE : LINGER)) return TIRED;
    if (step_aside(pool, own)) return CROWDED;
  }
}

/* Sleep until a round after `seen` has begun. */
static void sleep_until_round(struct stack_pool *pool, uint32_t seen) {
  pthread_mutex_lock(&pool->lock);
  atomic_fetch_add(&pool->sleeping, 1);
  while (atomic_load(&pool->round) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
  atomic_fetch_sub(&pool->sleeping, 1);
  pthread_mutex_unlock(&pool->lock);
}

/* Sleep until there may be a core for this thread. */
static void stand_aside(struct stack_pool *pool, int own) {
  pthread_mutex_lock(&pool->lock);
  atomic_store(&pool->shares[own].core, -1);
  atomic_fetch_add(&pool->aside, 1);
  for (unsigned calls = pool->calls; calls == pool->calls && !atomic_load(&pool->closing);) pthread_cond_wait(&pool->room, &pool->lock);
  atomic_fetch_sub(&pool->aside, 1);
  pthread_mutex_unlock(&pool->lock);
}

static void call_back(struct stack_pool *pool) {
  pthread_mutex_lock(&pool->lock);
  ++pool->calls;
  pthread_cond_broadcast(&pool->room);
  pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument) {
  struct share *mine = argument;
  struct stack_pool *pool = mine->pool;
  uint32_t seen = 0;
  for (;;) {
    enum spun spun = spin(pool, mine->own, seen);
    if (spun == TIRED) {
      sleep_until_round(pool, seen);
      if (step_aside(pool, mine->own)) spun = CROWDED;
    }
    while (spun == CROWDED && !atomic_load(&pool->closing)) {
      stand_aside(pool, mine->own);
      if (!step_aside(pool, mine->own)) spun = STARTED;
    }
    seen = atomic_load(&pool->round);
    if (atomic_load(&pool->closing)) return NULL;
    int count = take_tasks(pool, mine->own, seen);
    if (count) atomic_store_explicit(&mine->done, (uint64_t)seen << 32 | (uint32_t)count, memory_order_release);
  }
}

static uint32_t start_round(struct stack_pool *pool) {
  uint32_t round = atomic_fetch_add(&pool->round, 1) + 1;
  if (atomic_load(&pool->sleeping)) {
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
  }
  return round;
}

struct stack_pool *stack_pool_new(int threads) {
  struct stack_pool *pool = aligned_alloc(LINE, sizeof *pool);
  if (!pool) return NULL;
  *pool = (struct stack_pool){.threads = 1, .slots = threads > 1 ? threads : 1, .process = getpid()};
  atomic_flag_clear(&pool->taken);
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  pthread_cond_init(&pool->room, NULL);
  pool->workers = calloc((size_t)pool->slots, sizeof *pool->workers);
  pool->shares = aligned_alloc(LINE, (size_t)pool->slots * sizeof *pool->shares);
  if (!pool->workers || !pool->shares) return pool; /* which then computes on the calling thread */
  for (int index = 0; index < pool->slots; ++index) {
    int first = (int)((int64_t)UNITS * index / pool->slots), end = (int)((int64_t)UNITS * (index + 1) / pool->slots);
    pool->shares[index] = (struct share){.first = first, .end = end, .own = index, .pool = pool};
    atomic_init(&pool->shares[index].next, (uint64_t)end); /* of round 0, with nothing to take */
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
  start_round(pool); /* which workers leave at once */
  call_back(pool);
  for (int index = 1; index < pool->threads; ++index) pthread_join(pool->workers[index], NULL);
  pthread_mutex_destroy(&pool->lock);
  pthread_cond_destroy(&pool->wake);
  pthread_cond_destroy(&pool->room);
  free(pool->workers);
  free(pool->shares);
  free(pool);
}

void stack_pool_use(struct stack_pool *pool) {
  if (current) atomic_fetch_sub(&current->active, 1);
  current = NULL;
  if (!pool || pool->threads == 1 || pool->process != getpid()) return;
  int cores = allowed_cores(), aside = atomic_load(&pool->aside);
  if (cores == 1) return;
  if (aside && pool->threads - aside < cores) call_back(pool);
  current = pool;
  atomic_fetch_add(&current->active, 1);
}

static int parallel_launch(closure run, void *data, int tasks) {
  struct stack_pool *pool = current;
  (void)tasks; /* always 0: as many as there are threads */
  if (!pool || pool->threads == 1 || atomic_flag_test_and_set(&pool->taken)) {
    struct group alone = {0, 1};
    return run(0, &alone, data);
  }
  pool->run = run;
  pool->data = data;
  atomic_store_explicit(&pool->shares[0].core, sched_getcpu(), memory_order_relaxed);
  uint32_t round = start_round(pool);
  current = NULL; /* a parallel loop inside a parallel loop stays on its thread */
  int mine = take_tasks(pool, 0, round), finished;
  current = pool;
  for (int spins = 0;; spins += spins < POLITE) {
    finished = mine;
    for (int index = 1; index < pool->slots; ++index) {
      uint64_t done = atomic_load_explicit(&pool->shares[index].done, memory_order_acquire);
      if (done >> 32 == round) finished += (int)(uint32_t)done;
    }
    if (finished == UNITS) break;
    if (spins == SPINS && crowded(pool, 0, pool->slots, sched_getcpu())) spins = EAGER; /* the one that we wait for needs this core */
    if (spins < EAGER) relax(); else if (spins < POLITE) sched_yield(); else nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
  }
  int code = atomic_load(&pool->failed);
  if (code) atomic_store(&pool->failed, 0);
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
