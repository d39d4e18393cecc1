/*
 * The list of services in use, kept for the next daemon, which watches them without waiting for
 * their clients to come back. A text file: a name and a newline each.
 */
#pragma once

#include "daemon/backup-writer.h"

struct backup_list;

/* The text, to be freed by the list; NULL: no memory. */
typedef char *(*backup_list_fn)(void *userdata);

int backup_list_new(struct loop *loop, struct backup_writer *writer, struct backup_list **ret_list);
struct backup_list *backup_list_free(struct backup_list *list);

/* Three that take NULL as "nobody keeps it". Asked for the text a moment after each change, until
 * it is NULL. */
void backup_list_with(struct backup_list *list, backup_list_fn fn, void *userdata);
void backup_list_changed(struct backup_list *list);

/* The services are about to end: as the list is now it stays. */
void backup_list_end(struct backup_list *list);

/* What a daemon before left; the caller frees it. NULL: there is none that can be believed. */
char *backup_list_read(int directory);
