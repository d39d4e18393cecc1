#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "daemon/web-address.h"
#include "test.h"

static void places_are_paths_addresses_or_off(void **state)
{
	struct web_address address;

	(void)state;
	assert_int_equal(web_address_parse("off", &address), 0);
	assert_true(address.is_off);
	assert_int_equal(web_address_parse("unix:/run/x/admin", &address), 0);
	assert_int_equal(address.at.ss_family, AF_UNIX);
	assert_string_equal(((struct sockaddr_un *)&address.at)->sun_path, "/run/x/admin");
	assert_int_equal(web_address_parse("127.0.0.1:8580", &address), 0);
	assert_int_equal(address.at.ss_family, AF_INET);
	assert_int_equal(ntohs(((struct sockaddr_in *)&address.at)->sin_port), 8580);
	assert_int_equal(web_address_parse("[::1]:65535", &address), 0);
	assert_int_equal(address.at.ss_family, AF_INET6);
	assert_int_equal(ntohs(((struct sockaddr_in6 *)&address.at)->sin6_port), 65535);
}

static void what_is_no_place_is_refused(void **state)
{
	static const char *const wrong[] = { "", ":", ":80", "on", "unix:", "unix:run",
		"localhost:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
		"127.0.0.1:-1", "127.0.0.1:0080000", "::1:80", "[::1]", "[::1]80", "[::1:80",
		"[]:80", "1.2.3.4.5:80", "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:80" };
	struct web_address address;
	char path[200] = "unix:/";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		if (web_address_parse(wrong[i], &address) != -EINVAL)
			fail_msg("%s was taken", wrong[i]);
	memset(path + 6, 'x', sizeof(path) - 7);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(web_address_parse(path, &address), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places_are_paths_addresses_or_off),
		cmocka_unit_test(what_is_no_place_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
