/*
 * Lookups in one process: libconsulcfg's views beside hash tables in the process's own heap. Keys are
 * asked for in random order; every round visits every contestant; a line of JSON with medians.
 *
 *	read-load COUNT ROUNDS		COUNT keys of the service "bench", as static_consul.py names them
 */
#include <glib.h>
#include <lmdb.h>
#include <uthash.h>

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "client/lib/consulcfg.h"

namespace {

using Clock = std::chrono::steady_clock;

struct Query {
	const char *key; /* NUL-terminated */
	uint32_t len;
};

struct Entry {
	std::string key, value;
	UT_hash_handle hh;
};

volatile uint64_t sink;

[[noreturn]] void die(const char *what)
{
	std::fprintf(stderr, "read-load: %s\n", what);
	std::exit(1);
}

double median(std::vector<double> samples)
{
	std::sort(samples.begin(), samples.end());
	return samples[samples.size() / 2];
}

double nanoseconds_per(size_t n, const std::function<uint64_t()> &run)
{
	auto start = Clock::now();
	sink += run();
	return std::chrono::duration<double, std::nano>(Clock::now() - start).count() / (double)n;
}

struct Contestant {
	const char *name;
	std::function<uint64_t()> run;
	std::vector<double> samples = {};
};

class Tables {
    public:
	absl::flat_hash_map<std::string, std::string> absl_map;
	std::unordered_map<std::string, std::string> std_map;
	GHashTable *glib = g_hash_table_new(g_str_hash, g_str_equal);
	Entry *uthash = nullptr;
	MDB_env *env = nullptr;
	MDB_txn *txn = nullptr;
	MDB_dbi dbi = 0;
	std::vector<Entry> entries;

	explicit Tables(const ccfg_view *view, size_t count, const char *directory)
	{
		ccfg_entry e = {};
		size_t cursor = 0;

		e.size = sizeof(e);
		entries.reserve(count);
		while (ccfg_view_next(view, "", &cursor, &e))
			entries.push_back({ { e.key, e.key_len }, { e.value, e.value_len }, {} });
		if (entries.size() != count)
			die("the daemon serves another number of keys");
		/* As a service would fill them: in no particular order. */
		std::shuffle(entries.begin(), entries.end(), std::mt19937(7));
		mdb_env_create(&env);
		mdb_env_set_mapsize(env, size_t(1) << 31);
		if (mdb_env_open(env, directory, MDB_NOSYNC, 0600) != 0)
			die("LMDB does not open");
		mdb_txn_begin(env, nullptr, 0, &txn);
		mdb_dbi_open(txn, nullptr, 0, &dbi);
		for (auto &entry : entries)
			add(entry);
		mdb_txn_commit(txn);
		mdb_txn_begin(env, nullptr, MDB_RDONLY, &txn);
	}

    private:
	void add(Entry &entry)
	{
		MDB_val k = { entry.key.size(), entry.key.data() };
		MDB_val v = { entry.value.size(), entry.value.data() };

		absl_map.emplace(entry.key, entry.value);
		std_map.emplace(entry.key, entry.value);
		g_hash_table_insert(glib, g_strdup(entry.key.c_str()), g_strdup(entry.value.c_str()));
		Entry *copy = new Entry{ entry.key, entry.value, {} };
		HASH_ADD_KEYPTR(hh, uthash, copy->key.data(), copy->key.size(), copy);
		if (mdb_put(txn, dbi, &k, &v, 0) != 0)
			die("LMDB is full");
	}
};

uint64_t touch(const char *value, size_t len)
{
	return (unsigned char)value[0] + len;
}

std::vector<Query> ask_for(const std::vector<Entry> &entries, size_t n, bool is_missing)
{
	auto *text = new std::string; /* one after the other: reading the questions costs the same */
	std::vector<Query> queries;
	std::mt19937_64 random(42);

	for (size_t i = 0; i < n; i++) {
		std::string key = entries[random() % entries.size()].key;
		if (is_missing)
			key[key.size() - 1 - i % 5] = 'x';
		queries.push_back({ nullptr, (uint32_t)key.size() });
		text->append(key.c_str(), key.size() + 1);
	}
	const char *at = text->data();
	for (auto &query : queries) {
		query.key = at;
		at += query.len + 1;
	}
	return queries;
}

} // namespace

int main(int argc, char *argv[])
{
	const size_t count = argc > 1 ? strtoul(argv[1], nullptr, 10) : 0;
	const int rounds = argc > 2 ? atoi(argv[2]) : 0;
	const size_t n = count <= 100 ? 1000 : count <= 10000 ? 20000 : 1000000; /* different queries */
	const size_t repeats = 4000000 / n; /* lookups of a sample: 4 million */
	ccfg_options options = {};
	ccfg *cfg = nullptr;
	char buf[256];

	if (count == 0 || rounds == 0)
		die("usage: read-load COUNT ROUNDS");
	options.size = sizeof(options);
	options.timeout_ms = 60000;
	int r = ccfg_open("bench", &options, &cfg);
	if (r < 0)
		die(strerror(-r));
	const ccfg_view *view = ccfg_pin(cfg);
	Tables tables(view, count, std::getenv("READ_LOAD_DIRECTORY"));
	auto queries = ask_for(tables.entries, n, false), missing = ask_for(tables.entries, n, true);
	std::vector<std::string> strings;
	for (auto &q : queries)
		strings.emplace_back(q.key, q.len);

	auto each = [&](const std::vector<Query> &asked, auto lookup) {
		uint64_t sum = 0;
		for (size_t i = 0; i < repeats; i++)
			for (const auto &q : asked)
				sum += lookup(q);
		return sum;
	};
	auto get = [&](const Query &q) -> uint64_t {
		size_t len = 0;
		const char *value = ccfg_view_get(view, q.key, q.len, &len);
		return value ? touch(value, len) : 1;
	};
	auto find_absl = [&](const Query &q) -> uint64_t {
		auto it = tables.absl_map.find(absl::string_view(q.key, q.len));
		return it != tables.absl_map.end() ? touch(it->second.data(), it->second.size()) : 1;
	};
	ccfg_int64 *bound = ccfg_bind_int64(cfg, tables.entries[0].key.c_str(), 1);

	std::vector<Contestant> contestants = {
		{ "view", [&] { return each(queries, get); } },
		{ "absl", [&] { return each(queries, find_absl); } },
		{ "unordered_map", [&] {
			 uint64_t sum = 0;
			 for (size_t i = 0; i < repeats; i++)
				 for (const auto &s : strings) {
					 auto it = tables.std_map.find(s);
					 sum += touch(it->second.data(), it->second.size());
				 }
			 return sum;
		 } },
		{ "GHashTable", [&] {
			 return each(queries, [&](const Query &q) {
				 auto value = (const char *)g_hash_table_lookup(tables.glib, q.key);
				 return touch(value, q.len);
			 });
		 } },
		{ "uthash", [&] {
			 return each(queries, [&](const Query &q) {
				 Entry *found;
				 HASH_FIND(hh, tables.uthash, q.key, q.len, found);
				 return touch(found->value.data(), found->value.size());
			 });
		 } },
		{ "LMDB", [&] {
			 return each(queries, [&](const Query &q) {
				 MDB_val k = { q.len, (void *)q.key }, v;
				 if (mdb_get(tables.txn, tables.dbi, &k, &v) != 0)
					 die("LMDB lost a key");
				 return touch((const char *)v.mv_data, v.mv_size);
			 });
		 } },
		{ "view, missing", [&] { return each(missing, get); } },
		{ "absl, missing", [&] { return each(missing, find_absl); } },
		{ "view and memcpy", [&] {
			 return each(queries, [&](const Query &q) {
				 size_t len;
				 const char *value = ccfg_view_get(view, q.key, q.len, &len);
				 memcpy(buf, value, len);
				 return touch(buf, len);
			 });
		 } },
		{ "ccfg_get", [&] {
			 return each(queries, [&](const Query &q) {
				 ssize_t len = ccfg_get(cfg, q.key, buf, sizeof(buf));
				 return touch(buf, (size_t)len);
			 });
		 } },
		{ "bound int64", [&] {
			 return each(queries, [&](const Query &) { return (uint64_t)ccfg_int64_value(bound); });
		 } },
		{ "two threads", [&] {
			 std::atomic<uint64_t> sum{ 0 };
			 auto half = [&] {
				 uint64_t own = 0;
				 for (size_t i = 0; i < repeats; i++)
					 for (const auto &q : queries) {
						 size_t len = 0;
						 const char *value = ccfg_view_get(view, q.key, q.len, &len);
						 own += touch(value, len);
					 }
				 sum += own;
			 };
			 std::thread other(half);
			 half();
			 other.join();
			 return sum.load();
		 } },
	};
	for (int round = 0; round < rounds; round++)
		for (auto &c : contestants)
			c.samples.push_back(nanoseconds_per(n * repeats, c.run));
	printf("{");
	for (size_t i = 0; i < contestants.size(); i++)
		printf("%s\"%s\": %.3f", i ? ", " : "", contestants[i].name, median(contestants[i].samples));
	printf("}\n");
	ccfg_unpin(view);
	ccfg_close(cfg);
	return 0;
}
