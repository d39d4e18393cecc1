/*
 * The polls that Consul still answers, with the time by which each is over. An agent keeps the
 * place of a poll until its wait ends, also when the one who asked has gone: a daemon that crashes
 * and is started again finds the places of the one before still taken. So each is written down, in
 * a file that outlives the daemon, before it is asked. Knows times; must not know what is asked.
 *
 * The bytes of the file are not trusted: a time that no poll could have is none.
 */
#pragma once

#include "proto/std.h"

struct ledger;

/*
 * Reads what an earlier daemon left in that directory; NULL: there is no file, all is forgotten
 * with the process. Where the file cannot be had, *ret_is_lasting is false. 0, -ENOMEM.
 */
int ledger_new(const char *directory, struct ledger **ret_ledger, bool *ret_is_lasting);
struct ledger *ledger_free(struct ledger *ledger); /* NULL is fine; returns NULL */

/* Polls of this daemon that run, and of any that are not over yet. */
unsigned ledger_n_open(const struct ledger *ledger);

/* Of those, what was inherited: each has a connection that is none of ours. */
unsigned ledger_n_inherited(const struct ledger *ledger);
/* All are from here on as those of an earlier daemon: the connections they have are closed. */
void ledger_inherit(struct ledger *ledger);

/* A poll begins. Its entry, or -EBUSY when `limit` of them are open. */
int ledger_open(struct ledger *ledger, unsigned limit, uint64_t wait_usec);
/* Its answer came. */
void ledger_close(struct ledger *ledger, int entry);
/* Nobody listens any more: its place is free when its time is over. */
void ledger_leave(struct ledger *ledger, int entry);
