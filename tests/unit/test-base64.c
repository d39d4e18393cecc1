#include "test.h"

#include "daemon/base64.h"

#define LONGEST 16

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The straightforward way, bit by bit. Returns the length. */
static size_t encode(const uint8_t *data, size_t size, char *text)
{
	size_t len = 0;

	for (size_t bit = 0; bit < size * 8; bit += 6) {
		unsigned v = 0;

		for (size_t i = bit; i < bit + 6; i++)
			v = v << 1 | (i < size * 8 ? data[i / 8] >> (7 - i % 8) & 1 : 0);
		text[len++] = alphabet[v];
	}
	while (len % 4 != 0)
		text[len++] = '=';
	return len;
}

/* Both buffers are as long as they have to be, so that what is touched beyond them is found. */
static int decode(const char *text, size_t len, char **ret_data, size_t *ret_size)
{
	char *copy = test_copy(text, len);
	int r;

	*ret_size = base64_decoded_len(text, len);
	*ret_data = malloc(MAX(*ret_size, (size_t)1));
	assert_non_null(*ret_data);
	r = base64_decode(copy, len, *ret_data);
	free(copy);
	return r;
}

static void expect_bad_bytes(const char *text, size_t len)
{
	char *data;
	size_t size;

	assert_int_equal(decode(text, len, &data, &size), -EBADMSG);
	free(data);
}

static void expect_bad(const char *text)
{
	expect_bad_bytes(text, strlen(text));
}

static void expect_decoded(const char *text, const char *expected)
{
	char *data;
	size_t size;

	assert_int_equal(decode(text, strlen(text), &data, &size), 0);
	assert_int_equal(size, strlen(expected));
	assert_memory_equal(data, expected, size);
	free(data);
}

static void the_examples_of_the_standard_decode(void **state)
{
	(void)state;
	expect_decoded("", "");
	expect_decoded("Zg==", "f");
	expect_decoded("Zm8=", "fo");
	expect_decoded("Zm9v", "foo");
	expect_decoded("Zm9vYg==", "foob");
	expect_decoded("Zm9vYmE=", "fooba");
	expect_decoded("Zm9vYmFy", "foobar");
}

static void each_character_has_its_value_in_each_place(void **state)
{
	(void)state;
	for (unsigned place = 0; place < 4; place++) {
		for (unsigned v = 0; v < 64; v++) {
			char text[4] = { 'A', 'A', 'A', 'A' };
			uint32_t bits = v << (18 - 6 * place);
			uint8_t data[3];

			text[place] = alphabet[v];
			assert_int_equal(base64_decode(text, sizeof(text), (char *)data), 0);
			assert_int_equal(
				(uint32_t)data[0] << 16 | (uint32_t)data[1] << 8 | data[2], bits);
		}
	}
}

static void every_length_comes_back(void **state)
{
	(void)state;
	for (size_t size = 0; size <= LONGEST; size++) {
		for (unsigned seed = 0; seed < 256; seed++) {
			uint8_t data[LONGEST];
			char text[LONGEST * 2], *decoded;
			size_t len, n;

			for (size_t i = 0; i < size; i++)
				data[i] = (uint8_t)(seed + i * 37);
			len = encode(data, size, text);
			assert_int_equal(decode(text, len, &decoded, &n), 0);
			assert_int_equal(n, size);
			assert_memory_equal(decoded, data, size);
			free(decoded);
		}
	}
}

static bool is_in_alphabet(unsigned c)
{
	return c != 0 && strchr(alphabet, (int)c);
}

static void a_character_of_no_alphabet_is_refused_wherever_it_stands(void **state)
{
	static const char *const good[] = { "QUJDREVG", "QUJDREU=", "QUJDRA==" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		size_t len = strcspn(good[i], "=");

		for (size_t at = 0; at < len; at++) {
			for (unsigned c = 0; c < 256; c++) {
				char text[8];

				/* At the end it is the padding of a shorter text. */
				if (is_in_alphabet(c) || (c == '=' && at == len - 1))
					continue;
				memcpy(text, good[i], sizeof(text));
				text[at] = (char)c;
				expect_bad_bytes(text, sizeof(text));
			}
		}
	}
}

static void a_length_that_is_no_whole_group_is_refused(void **state)
{
	(void)state;
	expect_bad("Z");
	expect_bad("Zg");
	expect_bad("Zg=");
	expect_bad("Zm8");
	expect_bad("=");
	expect_bad("==");
	expect_bad("Zm9vY");
	expect_bad("Zm9vYg");
	expect_bad("Zm9vYg=");
	expect_bad("Zg===");
}

static void padding_that_is_too_much_or_not_at_the_end_is_refused(void **state)
{
	(void)state;
	expect_bad("====");
	expect_bad("Z===");
	expect_bad("Zg==Zg==");
	expect_bad("Zm8=Zm8=");
	expect_bad("Zm9v====");
	expect_bad("Z=g=");
	expect_bad("Zg=v");
	expect_bad("=m9v");
}

static void bits_behind_the_end_are_refused(void **state)
{
	(void)state;
	for (unsigned v = 0; v < 64; v++) {
		char two[] = { 'Z', alphabet[v], '=', '=' }, one[] = { 'Z', 'm', alphabet[v], '=' };
		char data[3];

		assert_int_equal(base64_decode(two, 4, data), v % 16 == 0 ? 0 : -EBADMSG);
		assert_int_equal(base64_decode(one, 4, data), v % 4 == 0 ? 0 : -EBADMSG);
	}
}

static void the_decoded_length_is_never_above_the_bound(void **state)
{
	char text[LONGEST];

	(void)state;
	for (size_t len = 0; len <= sizeof(text); len++) {
		for (size_t n_padding = 0; n_padding <= len; n_padding++) {
			size_t size = BASE64_DECODED_MAX(len);

			memset(text, 'A', sizeof(text));
			memset(text + len - n_padding, '=', n_padding);
			size -= MIN(size, MIN(n_padding, (size_t)2));
			assert_int_equal(base64_decoded_len(text, len), size);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_examples_of_the_standard_decode),
		cmocka_unit_test(each_character_has_its_value_in_each_place),
		cmocka_unit_test(every_length_comes_back),
		cmocka_unit_test(a_character_of_no_alphabet_is_refused_wherever_it_stands),
		cmocka_unit_test(a_length_that_is_no_whole_group_is_refused),
		cmocka_unit_test(padding_that_is_too_much_or_not_at_the_end_is_refused),
		cmocka_unit_test(bits_behind_the_end_are_refused),
		cmocka_unit_test(the_decoded_length_is_never_above_the_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
