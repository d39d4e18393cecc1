/*
 * The public structs as the first release had them. A failure here breaks programs that are built
 * already: members are added at the end, none is moved or resized. A struct that grew has another
 * sizeof here, and its old members where they were.
 */
#include "client/lib/consulcfg.h"

#if defined(__LP64__)

#define IS_AT(type, member, offset, bytes)                                                         \
	_Static_assert(                                                                            \
		offsetof(type, member) == (offset) && sizeof(((type *)0)->member) == (bytes),      \
		#type "." #member)

IS_AT(struct ccfg_options, size, 0, 8);
IS_AT(struct ccfg_options, socket_path, 8, 8);
IS_AT(struct ccfg_options, timeout_ms, 16, 4);
IS_AT(struct ccfg_options, flags, 20, 4);
_Static_assert(sizeof(struct ccfg_options) == 24, "ccfg_options");

IS_AT(struct ccfg_entry, size, 0, 8);
IS_AT(struct ccfg_entry, key, 8, 8);
IS_AT(struct ccfg_entry, key_len, 16, 8);
IS_AT(struct ccfg_entry, value, 24, 8);
IS_AT(struct ccfg_entry, value_len, 32, 8);
IS_AT(struct ccfg_entry, flags, 40, 8);
IS_AT(struct ccfg_entry, modify_index, 48, 8);
IS_AT(struct ccfg_entry, layer, 56, 4);
_Static_assert(sizeof(struct ccfg_entry) == 64, "ccfg_entry");

IS_AT(struct ccfg_change, size, 0, 8);
IS_AT(struct ccfg_change, key, 8, 8);
IS_AT(struct ccfg_change, key_len, 16, 8);
IS_AT(struct ccfg_change, old_value, 24, 8);
IS_AT(struct ccfg_change, old_len, 32, 8);
IS_AT(struct ccfg_change, new_value, 40, 8);
IS_AT(struct ccfg_change, new_len, 48, 8);
IS_AT(struct ccfg_change, generation, 56, 8);
_Static_assert(sizeof(struct ccfg_change) == 64, "ccfg_change");

IS_AT(struct ccfg_info, size, 0, 8);
IS_AT(struct ccfg_info, state, 8, 4);
IS_AT(struct ccfg_info, error, 12, 4);
IS_AT(struct ccfg_info, generation, 16, 8);
IS_AT(struct ccfg_info, digest, 24, 8);
IS_AT(struct ccfg_info, n_entries, 32, 8);
IS_AT(struct ccfg_info, n_bytes, 40, 8);
IS_AT(struct ccfg_info, age_us, 48, 8);
IS_AT(struct ccfg_info, index, 56, 8);
IS_AT(struct ccfg_info, n_unparsable, 64, 8);
_Static_assert(sizeof(struct ccfg_info) == 72, "ccfg_info");

IS_AT(struct ccfg_layer, size, 0, 8);
IS_AT(struct ccfg_layer, number, 8, 4);
IS_AT(struct ccfg_layer, state, 12, 4);
IS_AT(struct ccfg_layer, prefix, 16, 8);
IS_AT(struct ccfg_layer, value, 24, 8);
IS_AT(struct ccfg_layer, value_len, 32, 8);
IS_AT(struct ccfg_layer, sent_len, 40, 8);
IS_AT(struct ccfg_layer, index, 48, 8);
IS_AT(struct ccfg_layer, modify_index, 56, 8);
IS_AT(struct ccfg_layer, age_us, 64, 8);
IS_AT(struct ccfg_layer, wins, 72, 1);
IS_AT(struct ccfg_layer, is_locked, 73, 1);
_Static_assert(sizeof(struct ccfg_layer) == 80, "ccfg_layer");

#endif

_Static_assert(
	CCFG_NOWAIT == 1 && CCFG_REQUIRE_LIVE == 2 && CCFG_NO_BACKUP == 4 && CCFG_MANUAL == 8,
	"flags");
_Static_assert(CCFG_LOADING == 0 && CCFG_LIVE == 1 && CCFG_STALE == 2 && CCFG_BACKUP == 3 &&
		       CCFG_HELD == 4 && CCFG_FROZEN == 5,
	"states");

int main(void)
{
	return 0;
}
