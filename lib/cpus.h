/* cpus: how many CPUs this process may use, which are fewer than the machine has under taskset or in a
 * cpuset. For whoever takes a thread or a process per CPU unless told otherwise. Any thread; owns nothing;
 * cannot fail. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

/* CPUs, 1..1024. */
unsigned cpus_usable(void);

/* Their cores: hardware threads of one core count once. 1..cpus_usable(). */
unsigned cpus_cores(void);

#ifdef __cplusplus
}
#endif
