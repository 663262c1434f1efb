/* cmd_prometheus.h - status as metrics, as leakguard(8) documents them */
#ifndef CMD_PROMETHEUS_H
#define CMD_PROMETHEUS_H

struct status;

/*
 * Print them on stdout in the text format of Prometheus (version 0.0.4), which
 * node_exporter's textfile collector reads.
 */
#ifdef WITHOUT_PROMETHEUS
static inline void cmd_prometheus_status(const struct status *st)
{
	(void)st;
}
#else
void cmd_prometheus_status(const struct status *st);
#endif

#endif
