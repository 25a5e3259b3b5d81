/* memory: how much of it there is. Used by trainer/memory_check and clusterer/row_store, to refuse or spill
 * what cannot fit. Any thread; owns nothing; cannot fail. */
#pragma once

/* Bytes that this process may still take: MemAvailable, or what the tightest of its control groups leaves. 0
 * where the system does not say. */
double memory_free(void);
