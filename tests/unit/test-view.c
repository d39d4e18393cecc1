#include "test.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/lib/pages.h"
#include "client/lib/view.h"

struct item {
	const char *key;
	const char *value;
};

static struct ccfg_view *view_of(const struct item *items, size_t n, uint64_t generation)
{
	struct records records = { 0 };
	struct ccfg_view *view;

	for (size_t i = 0; i < n; i++) {
		const struct record record = {
			.key = items[i].key,
			.key_len = (uint32_t)strlen(items[i].key),
			.value = items[i].value,
			.value_len = (uint32_t)strlen(items[i].value),
			.flags = i,
			.modify_index = 100 + i,
			.layer = (uint8_t)i,
		};

		assert_int_equal(records_append(&records, &record), 0);
	}
	assert_int_equal(view_new(&records, 7, generation, &view), 0);
	/* The view has a copy. */
	if (records.size > 0)
		memset(records.data, 0xaa, records.size);
	records_done(&records);
	return view;
}

static const struct item three[] = { { "a", "1" }, { "db/pool", "" }, { "db/url", "x y" } };

static void a_view_finds_what_is_there(void **state)
{
	struct ccfg_view *view = view_of(three, ARRAY_SIZE(three), 5);
	size_t len = 99;

	(void)state;
	assert_int_equal(ccfg_view_generation(view), 5);
	assert_string_equal(ccfg_view_get(view, "db/url", 6, &len), "x y");
	assert_int_equal(len, 3);
	assert_string_equal(ccfg_view_get(view, "db/pool", 7, NULL), "");
	assert_string_equal(ccfg_view_get(view, "abc", 1, &len), "1");
	len = 99;
	assert_null(ccfg_view_get(view, "db", 2, &len));
	assert_null(ccfg_view_get(view, "", 0, &len));
	assert_null(ccfg_view_get(view, NULL, 0, &len));
	assert_int_equal(len, 99);
	view_unref(view);
}

static void a_view_is_walked_by_prefix(void **state)
{
	struct ccfg_view *view = view_of(three, ARRAY_SIZE(three), 5);
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0;

	(void)state;
	assert_true(ccfg_view_next(view, "db/", &cursor, &entry));
	assert_string_equal(entry.key, "db/pool");
	assert_int_equal(entry.value_len, 0);
	assert_true(ccfg_view_next(view, "db/", &cursor, &entry));
	assert_string_equal(entry.key, "db/url");
	assert_int_equal(entry.key_len, 6);
	assert_string_equal(entry.value, "x y");
	assert_int_equal(entry.flags, 2);
	assert_int_equal(entry.modify_index, 102);
	assert_int_equal(entry.layer, 2);
	assert_false(ccfg_view_next(view, "db/", &cursor, &entry));
	assert_false(ccfg_view_next(view, "db/", &cursor, &entry));
	cursor = 0;
	assert_false(ccfg_view_next(view, "c", &cursor, &entry));
	view_unref(view);
}

/* Programs built against another version of the header. */
static void an_entry_is_as_large_as_its_caller_says(void **state)
{
	struct ccfg_view *view = view_of(three, ARRAY_SIZE(three), 5);
	struct {
		struct ccfg_entry entry;
		char newer[16];
	} later = { .entry.size = sizeof(later), .newer = "untouched" };
	struct ccfg_entry entry = { .size = sizeof(entry.size) };
	size_t cursor = 0;

	(void)state;
	assert_false(ccfg_view_next(view, "", &cursor, &entry));
	assert_null(entry.key);
	cursor = 0;
	assert_true(ccfg_view_next(view, "", &cursor, &later.entry));
	assert_string_equal(later.entry.key, "a");
	assert_int_equal(later.entry.size, sizeof(later));
	assert_string_equal(later.newer, "untouched");
	view_unref(view);
}

static void an_empty_view_has_nothing(void **state)
{
	struct ccfg_view *view = view_of(NULL, 0, 0);
	struct ccfg_entry entry = { .size = sizeof(entry) };
	size_t cursor = 0;

	(void)state;
	assert_int_equal(ccfg_view_generation(view), 0);
	assert_null(ccfg_view_get(view, "a", 1, NULL));
	assert_false(ccfg_view_next(view, "", &cursor, &entry));
	view_unref(view);
}

static void a_view_lives_until_its_last_reference_goes(void **state)
{
	struct ccfg_view *view = view_of(three, ARRAY_SIZE(three), 5);

	(void)state;
	assert_ptr_equal(view_ref(view), view);
	assert_null(view_unref(view));
	assert_string_equal(ccfg_view_get(view, "a", 1, NULL), "1");
	assert_null(view_unref(view));
	assert_null(view_unref(NULL));
	ccfg_unpin(NULL);
}

/* Whether the mapping that holds an address is kept out of core dumps. */
static bool is_out_of_dumps(const void *address)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	bool is_in = false, is_out = false;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			is_in = (uintptr_t)address >= from && (uintptr_t)address < to;
		else if (is_in && strncmp(line, "VmFlags:", 8) == 0)
			is_out = strstr(line, " dd") != NULL;
	}
	fclose(maps);
	return is_out;
}

static void a_view_stays_out_of_core_dumps(void **state)
{
	struct ccfg_view *view = view_of(three, ARRAY_SIZE(three), 5);

	(void)state;
	assert_true(is_out_of_dumps(view->data));
	assert_false(is_out_of_dumps(view));
	view_unref(view);
}

/* --- pages ------------------------------------------------------------------------------- */

struct page {
	uint8_t data[512];
	size_t len;
};

static void page_begin(struct page *page, uint64_t generation, uint64_t cursor)
{
	const struct wire_list head = { le64_of(generation), le64_of(cursor) };

	memcpy(page->data, &head, sizeof(head));
	page->len = sizeof(head);
}

static void page_add(struct page *page, const char *key, const char *value)
{
	const struct wire_entry entry = {
		.modify_index = le64_of(3),
		.value_len = le32_of((uint32_t)strlen(value)),
		.key_len = le16_of((uint16_t)strlen(key)),
	};

	memcpy(page->data + page->len, &entry, sizeof(entry));
	memcpy(page->data + page->len + sizeof(entry), key, strlen(key));
	memcpy(page->data + page->len + sizeof(entry) + strlen(key), value, strlen(value));
	page->len += sizeof(entry) + strlen(key) + strlen(value);
}

/* From memory of exactly its length. */
static int add_page(struct pages *pages, const struct page *page)
{
	AUTO_FREE void *copy = test_copy(page->data, page->len);
	const struct link_reply reply = { .payload = copy, .len = page->len };

	return pages_add(pages, &reply);
}

static void a_pages_is_put_together_from_pages(void **state)
{
	struct pages pages = { 0 };
	struct ccfg_view *view;
	struct page page;

	(void)state;
	page_begin(&page, 9, 2);
	page_add(&page, "a", "1");
	page_add(&page, "b", "2");
	assert_int_equal(add_page(&pages, &page), 1);
	assert_int_equal(pages.cursor, 2);
	page_begin(&page, 9, 0);
	page_add(&page, "c", "3");
	assert_int_equal(add_page(&pages, &page), 0);
	assert_int_equal(view_new(&pages.records, pages.digest, pages.generation, &view), 0);
	assert_string_equal(ccfg_view_get(view, "c", 1, NULL), "3");
	/* The digest is the one that every host computes. */
	assert_int_equal(image_verify(&view->image), 0);
	assert_int_equal(ccfg_view_generation(view), 9);
	view_unref(view);
	pages_done(&pages);
	assert_int_equal(pages.generation, 0);
	assert_null(pages.records.data);
}

static void a_pages_trusts_nothing(void **state)
{
	struct page good, page;

	(void)state;
	page_begin(&good, 9, 2);
	page_add(&good, "b", "2");
	for (unsigned i = 0; i < 6; i++) {
		struct pages pages = { 0 };

		assert_int_equal(add_page(&pages, &good), 1);
		page_begin(&page, i == 0 ? 10 : 9, i == 1 ? 2 : 0);
		if (i == 2)
			page_add(&page, "a", "out of order");
		if (i == 3)
			page_add(&page, "b", "twice");
		if (i == 4)
			page_add(&page, "c\xff", "not UTF-8");
		if (i == 5) {
			page_add(&page, "c", "cut short");
			page.len--;
		}
		assert_int_equal(add_page(&pages, &page), -EBADMSG);
		pages_done(&pages);
	}
	for (size_t len = 0; len < sizeof(struct wire_list); len++) {
		struct pages pages = { 0 };

		page_begin(&page, 9, 0);
		page.len = len;
		assert_int_equal(add_page(&pages, &page), -EBADMSG);
		pages_done(&pages);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_view_finds_what_is_there),
		cmocka_unit_test(a_view_is_walked_by_prefix),
		cmocka_unit_test(an_entry_is_as_large_as_its_caller_says),
		cmocka_unit_test(an_empty_view_has_nothing),
		cmocka_unit_test(a_view_lives_until_its_last_reference_goes),
		cmocka_unit_test(a_view_stays_out_of_core_dumps),
		cmocka_unit_test(a_pages_is_put_together_from_pages),
		cmocka_unit_test(a_pages_trusts_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
