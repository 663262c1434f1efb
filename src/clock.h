/* clock.h - the two clocks, in milliseconds (clock_gettime(2)) */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

uint64_t clock_monotonic_ms(void); /* stands still in suspend: for pacing */
uint64_t clock_boottime_ms(void);  /* goes on: for what a user was promised */

#endif
