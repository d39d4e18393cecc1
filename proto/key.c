/*
 * Names of services and keys: bytes in, a verdict out. Knows no object of either side; asks
 * neither locale nor ctype, so that every process judges alike.
 */
#include "proto/key.h"

#include "proto/limits.h"

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_tail(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/*
 * Length of the UTF-8 sequence at p, 0 when there is none: overlong forms, surrogates and what
 * lies beyond U+10FFFF are refused, so that one text has one spelling.
 */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	unsigned char lead = p[0];

	if (lead < 0x80)
		return 1;
	if (lead < 0xc2 || lead > 0xf4 || left < 2 || !is_tail(p[1]))
		return 0;
	if (lead < 0xe0)
		return 2;
	if (left < 3 || !is_tail(p[2]))
		return 0;
	if (lead < 0xf0)
		return (lead == 0xe0 && p[1] < 0xa0) || (lead == 0xed && p[1] > 0x9f) ? 0 : 3;
	if (left < 4 || !is_tail(p[3]))
		return 0;
	return (lead == 0xf0 && p[1] < 0x90) || (lead == 0xf4 && p[1] > 0x8f) ? 0 : 4;
}

/* C0 and DEL as one byte, C1 as two: U+009B alone starts a terminal sequence. */
static bool is_control(const unsigned char *p, size_t n)
{
	if (n == 1)
		return p[0] < 0x20 || p[0] == 0x7f;
	return n == 2 && p[0] == 0xc2 && p[1] < 0xa0;
}

bool key_is_service_name(const char *name, size_t len)
{
	if (len == 0 || len > LIMIT_SERVICE_NAME || !is_alnum(name[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!is_alnum(name[i]) && name[i] != '.' && name[i] != '_' && name[i] != '-')
			return false;
	return true;
}

int key_check(const char *key, size_t len)
{
	if (len == 0)
		return -EINVAL;
	if (len > LIMIT_KEY)
		return -ENAMETOOLONG;
	if (memchr(key, '\0', len) || !key_is_utf8(key, len))
		return -EINVAL;
	return 0;
}

bool key_is_utf8(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;
	const unsigned char *end = p + len;

	while (p < end) {
		uint64_t eight;
		size_t n;

		/* Nearly all keys and values are ASCII: eight bytes at a time, the last ones
		 * together with some that have been looked at. */
		if (len >= sizeof(eight)) {
			const unsigned char *at = MIN(p, end - sizeof(eight));

			memcpy(&eight, at, sizeof(eight));
			if ((eight & UINT64_C(0x8080808080808080)) == 0) {
				p = at + sizeof(eight);
				continue;
			}
		}
		n = utf8_length(p, (size_t)(end - p));
		if (n == 0)
			return false;
		p += n;
	}
	return true;
}

int key_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t n = MIN(a_len, b_len);
	int order = n > 0 ? memcmp(a, b, n) : 0;

	if (order != 0)
		return order;
	return (a_len > b_len) - (a_len < b_len);
}

/* Writes the n bytes at p as \xNN each. */
static void write_hex(char *out, const unsigned char *p, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = '\\';
		*out++ = 'x';
		*out++ = digits[p[i] >> 4];
		*out++ = digits[p[i] & 0xf];
	}
}

char *key_escape(const char *text, size_t len, char *buf, size_t size)
{
	static const char dots[] = "...";
	const unsigned char *p = (const unsigned char *)text;
	const unsigned char *end = p + len;
	size_t used = 0, cut = 0;

	while (p < end) {
		size_t n = utf8_length(p, (size_t)(end - p));
		bool plain = n > 0 && !is_control(p, n);
		size_t width;

		n = MAX(n, 1u);
		width = plain ? n : 4 * n;
		if (used + width >= size) {
			memcpy(buf + cut, dots, sizeof(dots));
			return buf;
		}
		if (plain)
			memcpy(buf + used, p, n);
		else
			write_hex(buf + used, p, n);
		used += width;
		p += n;
		if (used + sizeof(dots) <= size)
			cut = used;
	}
	buf[used] = '\0';
	return buf;
}
