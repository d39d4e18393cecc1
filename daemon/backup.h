/*
 * The backups of all services: which there are, when each is written next, what became of it. Knows
 * images and names, no trees; files are the writer's matter.
 *
 * A service is written at most once a second, the first change at once. A disk that fails is tried
 * again, ever more seldom, with what is newest then; nothing but backups depends on it.
 */
#pragma once

#include "daemon/backup-list.h"
#include "daemon/backup-load.h"
#include "daemon/config.h"
#include "daemon/loop.h"
#include "daemon/ordered.h"

struct backups;
struct backup; /* of one service */
struct backup_pins;

typedef void (*backup_fn)(void *userdata);

/* What stands behind an image. */
struct backup_facts {
	char *names;
	size_t names_size;
	uint64_t confirmed_at; /* loop_now() */
	uint64_t index;
	uint64_t flags_digest;
	uint64_t layer_index[LIMIT_LAYERS];
};

/*
 * Opens the state directory, takes its lock and looks at the end of each backup. A directory that
 * cannot be used is logged: the daemon serves without. 0; -EADDRINUSE: another daemon has it;
 * -ENOMEM, other -errno of the loop.
 */
int backups_new(struct loop *loop, const struct config *config, gid_t socket_group,
	struct backups **ret_backups);

/* Writes what is still to be written, and waits for it. */
struct backups *backups_free(struct backups *backups);

/* What is kept goes where the rules want it now, or away. */
void backups_configure(struct backups *backups, const struct config *config);

/* NULL: there is none. It stays until the end. All of the following take NULL as "none". */
struct backup *backups_find(struct backups *backups, const char *service);
/* Made when new; NULL: no memory. */
struct backup *backups_get(struct backups *backups, const char *service);

/* Whether the service runs: what nobody uses is removed after a time. */
void backup_set_used(struct backup *backup, bool is_used);

/* Writes to the history alone. Made when new; NULL: no memory, or no backups. */
struct backup *backups_get_recorder(struct backups *backups, const char *service);

/*
 * Begins to load it, when it is of this identity. -ENOENT: there is none, or it could not be
 * believed, which was logged.
 */
int backup_load(
	struct backup *backup, const char *names, size_t names_size, struct backup_load **ret_load);
/* What was being loaded cannot be believed, or not be loaded: it is set aside, and logged. */
void backup_refuse(struct backup *backup, int error);

/* Whether the file has the contents with that digest. */
bool backup_has_digest(const struct backup *backup, uint64_t digest);

/* The file, for reading, if it has that generation. -ENOENT; other -errno. */
int backup_open(const struct backup *backup, uint64_t generation);

/* Whether a backup with this generation and freshness is worth a write. */
bool backup_is_due(const struct backup *backup, uint64_t generation, uint64_t confirmed_at);

/*
 * To be written soon, in place of what was to be. References the snapshot, takes facts->names.
 * Without memory it stays due, see backup_is_due().
 * is_pinned: it is not what the source says, and no part of the history.
 */
void backup_put(struct backup *backup, struct snapshot *snapshot, bool is_pinned,
	const struct backup_facts *facts);

/* Whether a file is there, and loop_now() time of the confirmation in it, which may lie before the
 * clock began. */
bool backup_is_known(const struct backup *backup, uint64_t *ret_confirmed_at);
/* The generation of the newest that is known, 0: none. */
uint64_t backup_generation(const struct backup *backup);
/* 0: the last write was good; -errno, and the step that failed. */
int backup_error(const struct backup *backup, const char **ret_step);

/* Whether nothing is being written; what is to be written is from now on. Of a failed write
 * backup_error() tells. */
bool backup_settle(struct backup *backup);
/* Who is told when a write has ended, maybe to begin anew; NULL: nobody. */
void backup_listen(struct backup *backup, backup_fn fn, void *userdata);

/* Writes that failed, since the start. */
uint64_t backups_n_errors(const struct backups *backups);

/* The services in use, for the next daemon. NULL where there are no backups. */
struct backup_list *backups_list(const struct backups *backups);

/* Removes what is kept of a service: where something is served all but that, which is written
 * first, else everything, also what is to be written; of generation `only`, where that is not 0.
 * -ENOENT: there is nothing like that. */
void backups_forget(struct backups *backups, const char *service, const struct snapshot *served,
	uint64_t only, struct backup_waiter *waiter_or_null);

/* For the files that keep other things there; NULL backups have neither. */
const struct state_directory *backups_directory(const struct backups *backups);
struct backup_writer *backups_writer(const struct backups *backups);
struct backup_pins *backups_pins(const struct backups *backups);
