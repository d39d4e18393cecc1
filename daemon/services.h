/*
 * The services of the daemon, by name: started when somebody wants one, ended when nobody has for a
 * while. For service.c; everybody else includes service.h.
 */
#pragma once

#include "daemon/log.h"
#include "daemon/service.h"

RB_HEAD(service_table, service);

struct services {
	struct loop *loop;
	struct trees *trees;
	struct announcer *announcer;
	struct backups *backups; /* NULL: there are none */
	const struct config *config;
	struct service_table table; /* by name */
	size_t n_services;
	uint64_t source; /* service_backup_source(), of config */
	uint64_t moved_at; /* loop_now() when a reload made that another one; 0: never */
	struct tally tally;
	struct changes *changes;
	struct log_pace pace; /* of lines about states */
	/* service::idle_link: that linger, those without keys in front, as they are free to invent.
	 */
	struct list idle;
	struct loop_timer *turn; /* armed: something was published in this turn of the loop, */
	uint64_t spent_usec; /* which took so long */
	unsigned n_loaded; /* for the first time, since the heap was looked at */
	struct loop_timer *settle_timer;
	char *awaited; /* names of those that the daemon before had in use, or NULL */
	char *awaited_next;
	struct loop_timer *await_timer;
};

/* A service of that name, which restores what is known of it and takes its layers. */
int service_new(
	struct services *services, const char *name, size_t name_len, struct service **ret_service);
void service_free(struct service *service);

/* One more has its first contents. */
void services_note_loaded(struct services *services);

/* Gives it the layers that the configuration names, if it has others. */
int service_apply_layers(struct service *service);
