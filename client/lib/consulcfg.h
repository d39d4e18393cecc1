/*
 * libconsulcfg: the live configuration of a service, kept by consulcfgd on this host.
 *
 *	ccfg *cfg;
 *	int r = ccfg_open("billing", NULL, &cfg);
 *	if (r < 0)
 *		return r;
 *	ttl = ccfg_get_int64(cfg, "cache/ttl", 300);
 *
 * Errors are negative errno values. Nothing here logs, exits, starts a thread or touches a signal.
 *
 * Threads: any number of threads may use one handle at the same time. Only ccfg_close() needs to
 * be alone: no other call on that handle may be running or follow.
 *
 * Fork: a child reads on with the handles it inherited, and makes a connection of its own when
 * there is something newer. Views that other threads of the parent had pinned stay in the child's
 * memory.
 *
 * Time: a read (every function but ccfg_open and ccfg_wait) waits at most 20 ms for a daemon in
 * whatever state it is, dead, stopped or busy; it then answers from what the handle holds and asks
 * again after 100 ms, backing off to 1 s. A handle finds a restarted daemon by itself.
 *
 * Structs begin with `size_t size`, to be set to the sizeof of the struct by the caller, so that
 * programs built against an older header keep working.
 */
#ifndef CONSULCFG_H
#define CONSULCFG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* One service's live configuration. */
typedef struct ccfg ccfg;

/* One immutable generation of it. */
typedef struct ccfg_view ccfg_view;

/* --- opening ------------------------------------------------------------------------------- */

/*
 * Do not wait: open with what the daemon has at once. Without a daemon, or without data, the
 * handle is empty (generation 0, every key absent) and fills by itself when data comes.
 */
#define CCFG_NOWAIT 0x1u

/* Open only once the source of the configuration has confirmed it: state CCFG_LIVE. */
#define CCFG_REQUIRE_LIVE 0x2u

/*
 * Where there is no daemon, do not read the service's newest backup from the disk instead. Without
 * this flag the handle opens with it, if this user may read it: state CCFG_BACKUP, until a daemon
 * answers.
 */
#define CCFG_NO_BACKUP 0x4u

/*
 * Only ccfg_dispatch() and ccfg_wait() take new generations: every other function answers from what
 * the handle holds and never waits. For event loops, and for programs that change configuration at
 * moments of their own choice.
 */
#define CCFG_MANUAL 0x8u

struct ccfg_options {
	size_t size; /* sizeof(struct ccfg_options) */
	const char *socket_path; /* NULL: $CONSULCFG_SOCKET, else /run/consulcfgd/socket */
	int timeout_ms; /* for the daemon and the first data; 0: 5000, -1: for ever */
	unsigned flags; /* CCFG_… */
};

/*
 * Opens a service by name ([A-Za-z0-9][A-Za-z0-9._-]{0,63}) and waits for its first data. A
 * service without any key is data: it opens, with no entries. `options` may be NULL for the
 * defaults and is not kept. The environment is not read in set-user-ID programs.
 *
 * 0 and *ret_cfg, to be closed with ccfg_close(); or, with *ret_cfg untouched:
 *   -EINVAL           not a service name; options->size too small; unknown flags
 *   -E2BIG            options has fields that this library does not know
 *   -ENAMETOOLONG     the socket's path does not fit into a socket address
 *   -ENOENT, -ECONNREFUSED, -ECONNRESET
 *                     no daemon at the socket within the time, and no backup
 *   -EACCES           this user may not read the service, or not connect to the socket
 *   -ETIMEDOUT        a daemon, but no data within the time, or with CCFG_REQUIRE_LIVE no live data
 *   -ENOBUFS          the daemon is at a limit: connections of this user, or services
 *   -EPROTONOSUPPORT  no protocol version in common with the daemon
 *   -EBADMSG          the daemon's answers make no sense
 *   -ENOMEM, -EMFILE, … from the system
 */
int ccfg_open(const char *service, const struct ccfg_options *options, ccfg **ret_cfg);

/*
 * Opens an image from a file (made by `consulcfg-dump`, or a backup) instead of asking a daemon:
 * for a program's own tests. It is read once and never changes. 0; -EINVAL; -EBADMSG: not an image;
 * -EPROTONOSUPPORT: of another major version; -ENOENT, … from the system.
 */
int ccfg_open_image(const char *file, ccfg **ret_cfg);

/* Closes the handle, its bound values and watches; not from within a callback. NULL is fine. Pinned
 * views stay valid until they are unpinned. */
void ccfg_close(ccfg *cfg);

/* --- single reads -------------------------------------------------------------------------- */

/*
 * Each of these reads one key of the newest generation. Keys are NUL-terminated, relative to the
 * service ("db/url"). Two reads may see two generations: pin a view where keys belong together.
 */

/*
 * Copies the value and a NUL into buf, cut to `size` bytes as snprintf does; buf may be NULL when
 * size is 0. What follows the NUL in buf may be zeroed. Returns the length of the whole value
 * without the NUL (values are bytes and may hold NULs), -ENOENT when there is no such key, -EINVAL
 * without a key.
 */
ssize_t ccfg_get(ccfg *cfg, const char *key, char *buf, size_t size);

/*
 * The value in memory of its own, NUL-terminated; release it with free(). *ret_len (NULL is fine)
 * is its length without the NUL. NULL with errno ENOENT (no such key), EINVAL or ENOMEM.
 */
char *ccfg_get_dup(ccfg *cfg, const char *key, size_t *ret_len);

/*
 * Typed values, `fallback` where the key is absent or its value does not parse. One trailing
 * newline is ignored, nothing else is:
 *   bool      true false yes no on off 1 0, in any case
 *   int64     -?[0-9]+
 *   double    as in the C locale, whatever the program's; no nan, no inf
 *   duration  number and unit, "250ms" "30s" "15min" "1h" "7d", a bare number is seconds; the
 *             result is in microseconds
 */
bool ccfg_get_bool(ccfg *cfg, const char *key, bool fallback);
int64_t ccfg_get_int64(ccfg *cfg, const char *key, int64_t fallback);
double ccfg_get_double(ccfg *cfg, const char *key, double fallback);
uint64_t ccfg_get_duration_us(ccfg *cfg, const char *key, uint64_t fallback);

/*
 * The same, strict: 0 and *ret, or with *ret untouched -ENOENT (no such key), -EINVAL (does not
 * parse), -ERANGE (parses, does not fit the type).
 */
int ccfg_read_bool(ccfg *cfg, const char *key, bool *ret);
int ccfg_read_int64(ccfg *cfg, const char *key, int64_t *ret);
int ccfg_read_double(ccfg *cfg, const char *key, double *ret);
int ccfg_read_duration_us(ccfg *cfg, const char *key, uint64_t *ret);

/* --- bound values -------------------------------------------------------------------------- */

/*
 * A value bound to its key costs next to nothing to read: it is parsed once per generation. Absent
 * keys give `fallback`. A value that does not parse never becomes the fallback: the last good one
 * stays (the fallback when there was none) and ccfg_info() counts it.
 *
 * NULL with errno EINVAL (not a key) or ENOMEM. Bound values end with ccfg_close(). Any thread.
 */
typedef struct ccfg_bool ccfg_bool;
typedef struct ccfg_int64 ccfg_int64;
typedef struct ccfg_double ccfg_double;
typedef struct ccfg_duration_us ccfg_duration_us;

ccfg_bool *ccfg_bind_bool(ccfg *cfg, const char *key, bool fallback);
ccfg_int64 *ccfg_bind_int64(ccfg *cfg, const char *key, int64_t fallback);
ccfg_double *ccfg_bind_double(ccfg *cfg, const char *key, double fallback);
ccfg_duration_us *ccfg_bind_duration_us(ccfg *cfg, const char *key, uint64_t fallback);

/* The value in the newest generation. Takes that as every read does. */
bool ccfg_bool_value(const ccfg_bool *bound);
int64_t ccfg_int64_value(const ccfg_int64 *bound);
double ccfg_double_value(const ccfg_double *bound);
uint64_t ccfg_duration_us_value(const ccfg_duration_us *bound);

/* --- views: many reads of one generation --------------------------------------------------- */

/*
 * Pins the newest generation. Never NULL; give it back with ccfg_unpin(), from any thread, also
 * after ccfg_close(). Everything read from a view lives until then.
 */
const ccfg_view *ccfg_pin(ccfg *cfg);
void ccfg_unpin(const ccfg_view *view); /* NULL is fine */

/*
 * The value of a key of key_len bytes, NUL-terminated, valid until the view is unpinned; *ret_len
 * (NULL is fine) is its length without the NUL. NULL when there is no such key.
 */
const char *ccfg_view_get(const ccfg_view *view, const char *key, size_t key_len, size_t *ret_len);

struct ccfg_entry {
	size_t size; /* sizeof(struct ccfg_entry) */
	const char *key; /* NUL-terminated UTF-8 */
	size_t key_len;
	const char *value; /* NUL-terminated, may hold NULs */
	size_t value_len;
	uint64_t flags; /* Consul's Flags of the key */
	uint64_t modify_index; /* Consul's ModifyIndex, 0 from other sources */
	unsigned layer; /* the layer it came from, 0 is the lowest */
};

/*
 * Walks the entries whose key starts with `prefix` ("" for all) in byte order of their keys.
 * *cursor is 0 before the first call and belongs to this view and prefix. True with *ret_entry
 * filled (its size is set by the caller; the pointers live until the view is unpinned), false at
 * the end, or when ret_entry->size is too small.
 *
 *	struct ccfg_entry entry;
 *	size_t cursor = 0;
 *
 *	entry.size = sizeof(entry);
 *	while (ccfg_view_next(view, "db/", &cursor, &entry))
 *		puts(entry.key);
 */
bool ccfg_view_next(
	const ccfg_view *view, const char *prefix, size_t *cursor, struct ccfg_entry *ret_entry);

/* The view's generation, 0 while there is no data. Opaque but for: another number, other data. */
uint64_t ccfg_view_generation(const ccfg_view *view);

/*
 * For who keeps what it made of a view: the generation that a read would answer from at once, a few
 * loads from memory; 0 when a read would first look for a newer one, or has no data. Never waits.
 *
 *	if (ccfg_current(cfg) != made_of || made_of == 0)
 *		make_anew(ccfg_pin(cfg));
 */
uint64_t ccfg_current(ccfg *cfg);

/*
 * Text by the grammar of the typed reads, for values of views: 0 and *ret, or with *ret untouched
 * -EINVAL (does not parse), -ERANGE (parses, does not fit the type). `text` needs no NUL.
 */
int ccfg_parse_bool(const char *text, size_t len, bool *ret);
int ccfg_parse_int64(const char *text, size_t len, int64_t *ret);
int ccfg_parse_double(const char *text, size_t len, double *ret);
int ccfg_parse_duration_us(const char *text, size_t len, uint64_t *ret);

/* --- changes ------------------------------------------------------------------------------- */

/*
 * Waits until the handle holds another generation than `after_generation` (of the view that the
 * caller acted on; 0: until there is data). timeout_ms: 0 only looks, -1 waits for ever. 0, or
 * -ETIMEDOUT, or -EINTR when a signal handler ran in this thread. A daemon that is away is waited
 * for. After a restart of the daemon a new generation may hold the same content: compare digests
 * (ccfg_info) or values where that matters.
 */
int ccfg_wait(ccfg *cfg, uint64_t after_generation, int timeout_ms);

/* What a key was and is. The pointers live until the callback returns. */
struct ccfg_change {
	size_t size; /* as the library knows the struct */
	const char *key; /* NUL-terminated */
	size_t key_len;
	const char *old_value; /* NUL-terminated; NULL: there was none */
	size_t old_len;
	const char *new_value; /* NUL-terminated; NULL: it was deleted */
	size_t new_len;
	uint64_t generation; /* the one with the new value */
};

typedef struct ccfg_watch ccfg_watch;
typedef void ccfg_change_fn(ccfg *cfg, const struct ccfg_change *change, void *userdata);

/*
 * A descriptor for any event loop: poll it for reading, level-triggered, and call ccfg_dispatch()
 * when it is readable; do nothing else with it. It stays the same for the life of the handle, over
 * restarts of the daemon; ccfg_close() closes it. A child of a fork asks for its own. -errno.
 */
int ccfg_fd(ccfg *cfg);

/*
 * Takes what has arrived and calls the watches, in this thread. Never waits. Returns how many
 * changes were told. Of several threads at a time one calls, the others return 0 at once.
 */
int ccfg_dispatch(ccfg *cfg);

/*
 * From now on ccfg_dispatch() calls fn for each key that starts with `prefix` ("": all) and whose
 * value has changed between two dispatches: what was written and taken back in between is not seen,
 * nor is a key written anew with the same value. Callbacks may use any function of this header but
 * ccfg_close(). 0 and *ret_watch, to be closed with ccfg_watch_close() or with the handle; -EINVAL,
 * -ENOMEM.
 */
int ccfg_on_change(
	ccfg *cfg, const char *prefix, ccfg_change_fn *fn, void *userdata, ccfg_watch **ret_watch);

/* No call begins after this returns; one that another thread is in may still go on. NULL is fine.
 */
void ccfg_watch_close(ccfg_watch *watch);

/* --- how good is it ------------------------------------------------------------------------ */

enum ccfg_state {
	CCFG_LOADING = 0, /* no data yet */
	CCFG_LIVE = 1, /* the source answers */
	CCFG_STALE = 2, /* the source, or the daemon, is away: the copy in memory */
	CCFG_BACKUP = 3, /* from disk (the daemon's, or read here), not yet confirmed */
	CCFG_HELD = 4, /* a suspicious answer of the source is withheld */
	CCFG_FROZEN = 5 /* an operator keeps this content */
};

struct ccfg_info {
	size_t size; /* sizeof(struct ccfg_info) */
	enum ccfg_state state;
	int error; /* 0, or -errno: why newer generations cannot be taken now; see ccfg_open() */
	uint64_t generation; /* of what the handle holds, 0: nothing yet */
	uint64_t
		digest; /* over its keys and values: the same on every host with the same content */
	uint64_t n_entries;
	uint64_t n_bytes; /* memory of this generation */
	uint64_t age_us; /* since the source last confirmed this content; UINT64_MAX: never known */
	uint64_t index; /* Consul's, of the newest change; 0: not known */
	uint64_t n_unparsable; /* bound values whose text in this generation does not parse */
};

/*
 * Asks the daemon how fresh the handle's content is. When it does not answer, the state is
 * CCFG_STALE (CCFG_LOADING without data, CCFG_BACKUP with what the disk had at open), the age
 * counts on from the last answer and `error` says why: a dead daemon never shows as live. 0, or
 * -EINVAL when ret_info->size is too small.
 */
int ccfg_info(ccfg *cfg, struct ccfg_info *ret_info);

/* What one layer of the service says of a key. The pointers live until the callback returns. */
struct ccfg_layer {
	size_t size; /* as the library knows the struct */
	unsigned number; /* 0 is the lowest */
	enum ccfg_state state;
	const char *prefix; /* NUL-terminated, as the source knows it */
	const char *value; /* NUL-terminated; NULL: the layer does not have the key */
	size_t value_len; /* of the whole value */
	size_t sent_len; /* of what is here: long values are cut */
	uint64_t index; /* Consul's, of the layer; 0: not known */
	uint64_t modify_index; /* of the key in this layer; 0: not known */
	uint64_t
		age_us; /* since the source last confirmed the layer; UINT64_MAX: no contents yet */
	bool wins; /* its value counts */
	bool is_locked; /* the key is locked: the lowest layer that has it counts, not the last */
};

typedef void ccfg_explain_fn(ccfg *cfg, const struct ccfg_layer *layer, void *userdata);

/*
 * Asks the daemon where the value of a key comes from: calls fn for each layer of the service, the
 * lowest first, in this thread, before it returns. The layers as they are now: the handle may hold
 * an older generation, and one that is withheld is not published. The number of layers, or -errno:
 * -EINVAL (not a key), -EOPNOTSUPP (a handle of an image file, or an older daemon), what
 * ccfg_open() gives without a daemon, -ETIMEDOUT, -ENOMEM.
 */
int ccfg_explain(ccfg *cfg, const char *key, ccfg_explain_fn *fn, void *userdata);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
