/*
 * check_tap.h - what leaves by any link, seen behind the hooks at the device
 *
 * A packet socket for all links (packet(7)) gets a copy of each packet that is
 * handed to a driver: what a rule dropped before is not among them.  A socket
 * filter leaves those that may be ours.
 */
#ifndef CHECK_TAP_H
#define CHECK_TAP_H

#include <stdbool.h>
#include <stdint.h>

struct check_packet;

/* Given each packet, and the link it left by, by index. */
typedef void check_tap_fn(void *ctx, const struct check_packet *packet, int link);

/*
 * Open it for queries made by check_packet_query(), and for TCP's SYNs from a
 * block of source ports (a power of two, aligned).  What leaves from now on is
 * seen.  0 and a descriptor that is readable when there is something, or -errno;
 * -EPERM without CAP_NET_RAW.
 */
int check_tap_open(uint16_t base_port, uint16_t block, int *ret_fd);

/* Give all that has come to `seen`; never blocks. */
void check_tap_read(int fd, check_tap_fn *seen, void *ctx);

/* Whether packets were lost since it was opened or asked the last time. */
bool check_tap_has_lost(int fd);

#endif
