/*
 * The public entry points: check what the program passed, call below.
 */
#include "client/lib/consulcfg.h"

#include <limits.h>

#include "client/lib/handle-dispatch.h"
#include "client/lib/handle-explain.h"
#include "client/lib/handle-info.h"
#include "proto/key.h"
#include "proto/limits.h"

#define KNOWN_FLAGS (CCFG_NOWAIT | CCFG_REQUIRE_LIVE | CCFG_NO_BACKUP | CCFG_MANUAL)

/* The structs as the first release had them: a program built then passes these sizes. */
#define OPTIONS_SIZE_0 (offsetof(struct ccfg_options, flags) + sizeof(unsigned))
#define ENTRY_SIZE_0 (offsetof(struct ccfg_entry, layer) + sizeof(unsigned))
#define INFO_SIZE_0 (offsetof(struct ccfg_info, age_us) + sizeof(uint64_t))

_Static_assert((int)CCFG_LOADING == WIRE_LOADING && (int)CCFG_LIVE == WIRE_LIVE &&
		       (int)CCFG_STALE == WIRE_STALE && (int)CCFG_BACKUP == WIRE_BACKUP &&
		       (int)CCFG_HELD == WIRE_HELD && (int)CCFG_FROZEN == WIRE_FROZEN,
	"states go out as they came");

static int take_options(const struct ccfg_options *options, struct ccfg_options *ret_options)
{
	*ret_options = (struct ccfg_options){ .size = sizeof(*ret_options) };
	if (options) {
		if (options->size < OPTIONS_SIZE_0)
			return -EINVAL;
		for (size_t i = sizeof(*options); i < options->size; i++)
			if (((const uint8_t *)options)[i] != 0)
				return -E2BIG;
		memcpy(ret_options, options, MIN(options->size, sizeof(*ret_options)));
	}
	if (ret_options->flags & ~KNOWN_FLAGS || ret_options->timeout_ms < -1)
		return -EINVAL;
	if (ret_options->timeout_ms == 0)
		ret_options->timeout_ms = DEFAULT_OPEN_MS;
	return 0;
}

static uint64_t deadline_after_ms(int timeout_ms)
{
	return timeout_ms < 0 ? CLOCK_FOREVER
			      : clock_after_usec((uint64_t)timeout_ms * USEC_PER_MSEC);
}

/* State changes without a new generation are not announced: they are asked for. */
static int wait_until_live(struct ccfg *cfg, uint64_t deadline)
{
	for (;;) {
		const struct timespec pause = { .tv_nsec = LIMIT_LIVE_LOOK_USEC * NSEC_PER_USEC };
		struct handle_info info;

		handle_ask(cfg, &info);
		view_unref(info.view);
		if (info.state == CCFG_LIVE)
			return 0;
		if (clock_now_usec() >= deadline)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
}

int ccfg_open(const char *service, const struct ccfg_options *options, ccfg **ret_cfg)
{
	struct ccfg_options o;
	struct ccfg *cfg;
	uint64_t deadline;
	bool no_wait;
	int r;

	if (!service || !ret_cfg)
		return -EINVAL;
	r = take_options(options, &o);
	if (r < 0)
		return r;
	r = handle_new(service, o.socket_path, &cfg);
	if (r < 0)
		return r;
	if (o.flags & CCFG_MANUAL)
		handle_be_manual(cfg);
	cfg->may_fall_back = !(o.flags & (CCFG_NO_BACKUP | CCFG_REQUIRE_LIVE));
	no_wait = o.flags & CCFG_NOWAIT;
	deadline = no_wait ? CLOCK_NO_WAIT : deadline_after_ms(o.timeout_ms);
	r = no_wait ? handle_open_now(cfg) : handle_open(cfg, deadline);
	if (r == 0 && o.flags & CCFG_REQUIRE_LIVE)
		r = wait_until_live(cfg, deadline);
	if (r < 0) {
		handle_free(cfg);
		return r;
	}
	*ret_cfg = cfg;
	return 0;
}

int ccfg_open_image(const char *file, ccfg **ret_cfg)
{
	if (!file || !ret_cfg)
		return -EINVAL;
	return handle_new_fixed(file, ret_cfg);
}

void ccfg_close(ccfg *cfg)
{
	handle_free(cfg);
}

#define SHORT 32 /* values below it are copied without asking how long they are */

typedef uint8_t bytes16 __attribute__((vector_size(16), aligned(1), may_alias));

/*
 * A short value and zeros up to SHORT. How long the next value is cannot be foreseen: a copy that
 * branches on it makes the processor wait for the value, which is most of a lookup when it comes
 * from memory, before it looks any further.
 */
static inline void put_short(char *buf, const char *value, size_t len)
{
	static const uint8_t ones_then_zeros[2 * SHORT] = {
#define ONES8 255, 255, 255, 255, 255, 255, 255, 255
		ONES8, ONES8, ONES8, ONES8
	};
	const bytes16 *keep = (const bytes16 *)(ones_then_zeros + SHORT - len);
	const bytes16 *from = (const bytes16 *)value;
	bytes16 *to = (bytes16 *)buf;

	to[0] = from[0] & keep[0];
	to[1] = from[1] & keep[1];
}

/* A value and its NUL into what room there is. */
static inline void put_value(char *buf, size_t size, const char *value, size_t len)
{
	if (__builtin_expect(len < size, 1)) {
		memcpy(buf, value, len + 1);
	} else if (size > 0) {
		memcpy(buf, value, size - 1);
		buf[size - 1] = '\0';
	}
}

ALWAYS_INLINE static inline ssize_t get_from(
	const struct ccfg_view *view, const char *key, size_t key_len, char *buf, size_t size)
{
	const struct image *image = &view->image;
	const char *value;
	size_t len;

	if (!image_find_value(image, key, key_len, &value, &len))
		return -ENOENT;
	if (__builtin_expect(
		    len < SHORT && size >= SHORT &&
			    (size_t)((const char *)image->data + image->size - value) >= SHORT,
		    1))
		put_short(buf, value, len);
	else
		put_value(buf, size, value, len);
	return (ssize_t)len;
}

/* The first read of a thread, something newer, a long key, or a mistake. */
static __attribute__((noinline, cold)) ssize_t get_slowly(
	ccfg *cfg, const char *key, char *buf, size_t size)
{
	struct handle_read read;
	ssize_t r;

	if (!key || (!buf && size > 0))
		return -EINVAL;
	read = handle_enter(cfg);
	r = get_from(read.view, key, strlen(key), buf, size);
	handle_leave(read);
	return r;
}

/* As get_slowly(), with nothing to be kept for what hardly ever happens. */
ALWAYS_INLINE static inline ssize_t get_fast(
	ccfg *cfg, const char *key, size_t key_len, char *buf, size_t size)
{
	struct hazard *hazard = hazard_own;
	const struct ccfg_view *view;
	ssize_t r;

	if (__builtin_expect(key_len > HASH_SHORT || !hazard || !handle_is_current(cfg), 0))
		return get_slowly(cfg, key, buf, size);
	view = hazard_enter_once(hazard, &cfg->view);
	if (__builtin_expect(!view, 0))
		return get_slowly(cfg, key, buf, size);
	r = get_from(view, key, key_len, buf, size);
	hazard_leave(hazard);
	return r;
}

ssize_t ccfg_get(ccfg *cfg, const char *key, char *buf, size_t size)
{
	if (__builtin_expect(!key || !buf, 0))
		return get_slowly(cfg, key, buf, size);
	return get_fast(cfg, key, strlen(key), buf, size);
}

char *ccfg_get_dup(ccfg *cfg, const char *key, size_t *ret_len)
{
	struct ccfg_view *view;
	const char *value;
	char *copy = NULL;
	size_t len;

	if (!key) {
		errno = EINVAL;
		return NULL;
	}
	view = handle_view(cfg);
	value = ccfg_view_get(view, key, strlen(key), &len);
	if (value)
		copy = malloc(len + 1);
	if (copy) {
		memcpy(copy, value, len + 1);
		if (ret_len)
			*ret_len = len;
	}
	view_unref(view);
	if (!copy)
		errno = value ? ENOMEM : ENOENT;
	return copy;
}

const ccfg_view *ccfg_pin(ccfg *cfg)
{
	return handle_view(cfg);
}

void ccfg_unpin(const ccfg_view *view)
{
	/* Only the count of references is ever written to. */
	view_unref((struct ccfg_view *)(uintptr_t)view);
}

ALWAYS_INLINE static inline const char *view_get(
	const ccfg_view *view, const char *key, size_t key_len, size_t *ret_len)
{
	const char *value;
	size_t len;

	if (!image_find_value(&view->image, key, key_len, &value, &len))
		return NULL;
	if (ret_len)
		*ret_len = len;
	return value;
}

static __attribute__((noinline)) const char *view_get_long(
	const ccfg_view *view, const char *key, size_t key_len, size_t *ret_len)
{
	return view_get(view, key, key_len, ret_len);
}

/* The hash of a long key is a call: apart from it, nothing has to be saved on the stack. */
const char *ccfg_view_get(const ccfg_view *view, const char *key, size_t key_len, size_t *ret_len)
{
	if (__builtin_expect(key_len > HASH_SHORT, 0))
		return view_get_long(view, key, key_len, ret_len);
	return key ? view_get(view, key, key_len, ret_len) : NULL;
}

bool ccfg_view_next(
	const ccfg_view *view, const char *prefix, size_t *cursor, struct ccfg_entry *ret_entry)
{
	struct ccfg_entry entry;
	struct record record;

	if (!prefix || ret_entry->size < ENTRY_SIZE_0)
		return false;
	if (!image_next(&view->image, prefix, strlen(prefix), cursor, &record))
		return false;
	entry = (struct ccfg_entry){
		.size = ret_entry->size,
		.key = record.key,
		.key_len = record.key_len,
		.value = record.value,
		.value_len = record.value_len,
		.flags = record.flags,
		.modify_index = record.modify_index,
		.layer = record.layer,
	};
	memcpy(ret_entry, &entry, MIN(ret_entry->size, sizeof(entry)));
	return true;
}

uint64_t ccfg_view_generation(const ccfg_view *view)
{
	return view->generation;
}

uint64_t ccfg_current(ccfg *cfg)
{
	return handle_is_current(cfg) ? atomic_load_explicit(&cfg->generation, memory_order_acquire)
				      : 0;
}

int ccfg_wait(ccfg *cfg, uint64_t after_generation, int timeout_ms)
{
	return handle_wait(cfg, after_generation, deadline_after_ms(timeout_ms));
}

int ccfg_info(ccfg *cfg, struct ccfg_info *ret_info)
{
	struct handle_info from;
	struct ccfg_info info;

	if (ret_info->size < INFO_SIZE_0)
		return -EINVAL;
	handle_ask(cfg, &from);
	info = (struct ccfg_info){
		.size = ret_info->size,
		.state = from.state,
		.error = from.error,
		.generation = from.view->generation,
		.digest = from.view->image.digest,
		.n_entries = from.view->image.n_entries,
		.n_bytes = from.view->image.size,
		.age_us = from.age_usec,
		.index = from.index,
		.n_unparsable = from.n_unparsable,
	};
	view_unref(from.view);
	memcpy(ret_info, &info, MIN(ret_info->size, sizeof(info)));
	return 0;
}

int ccfg_explain(ccfg *cfg, const char *key, ccfg_explain_fn *fn, void *userdata)
{
	if (!key || !fn || key_check(key, strlen(key)) < 0)
		return -EINVAL;
	return handle_explain(cfg, key, strlen(key), fn, userdata);
}

int ccfg_fd(ccfg *cfg)
{
	return handle_fd(cfg);
}

int ccfg_dispatch(ccfg *cfg)
{
	return handle_dispatch(cfg);
}

int ccfg_on_change(
	ccfg *cfg, const char *prefix, ccfg_change_fn *fn, void *userdata, ccfg_watch **ret_watch)
{
	if (!prefix || !fn || !ret_watch)
		return -EINVAL;
	return handle_watch(cfg, prefix, fn, userdata, ret_watch);
}

void ccfg_watch_close(ccfg_watch *watch)
{
	if (watch)
		handle_unwatch(watch);
}
