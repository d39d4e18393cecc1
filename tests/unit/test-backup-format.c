#include "test.h"

#include "proto/backup-format.h"
#include "proto/image-builder.h"

static const char names[] = "billing\0consul\0dc1\0\0\0config/billing/";

struct file {
	uint8_t *data;
	size_t size;
};

/* A backup of one key, as the writer puts it together. */
static struct file make(void)
{
	const struct record record = {
		.key = "db/url", .key_len = 6, .value = "secret", .value_len = 6
	};
	struct backup_footer footer = { .generation = le64_of(77),
		.confirmed_at = le64_of(5000000),
		.confirmed_boottime = le64_of(3000000),
		.boot_id = { 1, 2, 3 } };
	struct records records = { 0 };
	struct file file;
	size_t image_size;
	void *image;

	assert_int_equal(records_append(&records, &record), 0);
	assert_int_equal(image_build(&records, 1, &image, &image_size), 0);
	backup_format_finish(&footer, image, image_size, names, sizeof(names));
	file.size = image_size + sizeof(names) + sizeof(footer);
	file.data = malloc(file.size);
	assert_non_null(file.data);
	memcpy(file.data, image, image_size);
	memcpy(file.data + image_size, names, sizeof(names));
	memcpy(file.data + image_size + sizeof(names), &footer, sizeof(footer));
	free(image);
	records_done(&records);
	return file;
}

/* As a reader does: the footer, then the image against its checksum. */
static int read_file(const uint8_t *data, size_t size, struct backup_format *ret_backup)
{
	size_t n = MIN(size, BACKUP_TAIL);
	int r = backup_format_read(data + size - n, n, size, ret_backup);

	if (r < 0)
		return r;
	return hash_key((const char *)data, le64_get(ret_backup->footer.image_size), 0) ==
			       le64_get(ret_backup->footer.image_hash)
		       ? 0
		       : -EBADMSG;
}

static void what_was_written_is_read(void **state)
{
	struct file file = make();
	struct backup_format backup;

	(void)state;
	assert_int_equal(read_file(file.data, file.size, &backup), 0);
	assert_int_equal(le64_get(backup.footer.generation), 77);
	assert_true(backup_format_is_of(&backup, "billing"));
	assert_false(backup_format_is_of(&backup, "billin"));
	assert_true(backup_format_has_identity(&backup, names, sizeof(names)));
	assert_false(backup_format_has_identity(&backup, names, sizeof(names) - 1));
	free(file.data);
}

static void a_file_cut_at_any_offset_is_damaged(void **state)
{
	struct file file = make();
	struct backup_format backup;

	(void)state;
	for (size_t size = 0; size < file.size; size++) {
		uint8_t *cut = test_copy(file.data, size);

		assert_int_equal(read_file(cut, size, &backup), -EBADMSG);
		free(cut);
	}
	free(file.data);
}

static void a_bit_flipped_at_any_offset_is_found(void **state)
{
	struct file file = make();
	struct backup_format backup;

	(void)state;
	for (size_t i = 0; i < 8 * file.size; i++) {
		int r;

		file.data[i / 8] ^= (uint8_t)(1u << i % 8);
		r = read_file(file.data, file.size, &backup);
		assert_true(r == -EBADMSG || r == -EPROTONOSUPPORT);
		file.data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
	assert_int_equal(read_file(file.data, file.size, &backup), 0);
	free(file.data);
}

static void a_longer_footer_of_a_later_minor_version_is_read(void **state)
{
	struct file file = make();
	struct backup_format backup;
	struct backup_footer footer;
	size_t body = file.size - sizeof(footer), size = file.size + 16;
	uint8_t *longer = calloc(1, size), *at = longer + body;

	(void)state;
	memcpy(&footer, file.data + body, sizeof(footer));
	memcpy(longer, file.data, body);
	footer.minor = le16_of(1);
	footer.size = le32_of(sizeof(footer) + 16);
	memcpy(at + 16, &footer, sizeof(footer));
	footer.hash = le64_of(hash_chain(hash_chain(0, names, sizeof(names)), at,
		16 + offsetof(struct backup_footer, hash)));
	memcpy(at + 16, &footer, sizeof(footer));
	assert_int_equal(read_file(longer, size, &backup), 0);
	assert_int_equal(le64_get(backup.footer.generation), 77);
	free(longer);
	free(file.data);
}

static void names_that_do_not_fit_are_refused(void **state)
{
	static char long_name[LIMIT_BACKUP_NAMES];
	const char *const parts[] = { "a", NULL, long_name };
	char out[LIMIT_BACKUP_NAMES];
	size_t size;

	(void)state;
	memset(long_name, 'x', sizeof(long_name) - 4);
	assert_int_equal(backup_format_names(parts, 3, out, &size), 0);
	assert_int_equal(size, LIMIT_BACKUP_NAMES);
	memset(long_name, 'x', sizeof(long_name) - 3);
	assert_int_equal(backup_format_names(parts, 3, out, &size), -ENAMETOOLONG);
}

static void the_age_does_not_follow_a_clock_that_jumps(void **state)
{
	const uint64_t day = UINT64_C(86400) * USEC_PER_SEC;
	struct file file = make();
	struct backup_format backup;
	struct backup_clock clock = {
		.realtime_usec = 6000000 + day, .boottime_usec = 4500000, .boot_id = { 1, 2, 3 }
	};

	(void)state;
	assert_int_equal(read_file(file.data, file.size, &backup), 0);
	assert_int_equal(backup_format_age_usec(&backup.footer, &clock), 1500000);
	clock.realtime_usec = 1;
	assert_int_equal(backup_format_age_usec(&backup.footer, &clock), 1500000);
	/* Another boot: only the wall clock goes on. */
	clock.boot_id[0] = 9;
	clock.realtime_usec = 6000000;
	assert_int_equal(backup_format_age_usec(&backup.footer, &clock), 1000000);
	clock.realtime_usec = 1;
	assert_int_equal(backup_format_age_usec(&backup.footer, &clock), 0);
	free(file.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read),
		cmocka_unit_test(a_file_cut_at_any_offset_is_damaged),
		cmocka_unit_test(a_bit_flipped_at_any_offset_is_found),
		cmocka_unit_test(a_longer_footer_of_a_later_minor_version_is_read),
		cmocka_unit_test(names_that_do_not_fit_are_refused),
		cmocka_unit_test(the_age_does_not_follow_a_clock_that_jumps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
