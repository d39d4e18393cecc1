/*
 * Four tables, one per place of a character in its group, so that a group is four loads and three
 * ORs: decoding values is the larger part of what a big answer costs after finding them.
 */
#include "daemon/base64.h"

#define BAD UINT32_C(0x80000000)

static uint32_t tables[4][256]; /* written once, by prepare() */

static void prepare(void)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (unsigned place = 0; place < 4; place++) {
		for (unsigned c = 0; c < 256; c++)
			tables[place][c] = BAD;
		for (uint32_t v = 0; v < 64; v++)
			tables[place][(unsigned char)alphabet[v]] = v << (18 - 6 * place);
	}
}

static uint32_t group(const unsigned char *text)
{
	return tables[0][text[0]] | tables[1][text[1]] | tables[2][text[2]] | tables[3][text[3]];
}

static size_t padding(const char *text, size_t len)
{
	if (len == 0 || text[len - 1] != '=')
		return 0;
	return len >= 2 && text[len - 2] == '=' ? 2 : 1;
}

size_t base64_decoded_len(const char *text, size_t len)
{
	size_t max = BASE64_DECODED_MAX(len);

	return max - MIN(max, padding(text, len));
}

/* The last group when it is padded; `pad` is 1 or 2. */
static int decode_last(const unsigned char *text, size_t pad, char *buf)
{
	uint32_t v = tables[0][text[0]] | tables[1][text[1]] | (pad == 1 ? tables[2][text[2]] : 0);

	if (v & (BAD | (pad == 1 ? 0xffu : 0xffffu)))
		return -EBADMSG;
	*buf++ = (char)(v >> 16);
	if (pad == 1)
		*buf = (char)(v >> 8);
	return 0;
}

int base64_decode(const char *text, size_t len, char *buf)
{
	const unsigned char *in = (const unsigned char *)text;
	size_t pad = padding(text, len);
	uint32_t bad = 0;

	if (tables[0][0] == 0)
		prepare();
	if (len % 4 != 0)
		return -EBADMSG;
	for (size_t n = len / 4 - (pad > 0); n > 0; n--, in += 4, buf += 3) {
		uint32_t v = group(in);

		bad |= v;
		buf[0] = (char)(v >> 16);
		buf[1] = (char)(v >> 8);
		buf[2] = (char)v;
	}
	if (bad & BAD)
		return -EBADMSG;
	return pad > 0 ? decode_last(in, pad, buf) : 0;
}
