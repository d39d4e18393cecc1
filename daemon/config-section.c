/*
 * Sends a section to the file that knows it. Knows the names of sections, of no key.
 */
#include "daemon/config-section.h"

#include "daemon/config-layers.h"
#include "daemon/config-rule.h"
#include "daemon/config-socket.h"
#include "daemon/config-table.h"

int config_section_enter(struct config_draft *draft)
{
	if (config_rule_is_section(draft->section))
		return config_rule_enter(draft);
	if (config_socket_is_section(draft->section))
		return config_socket_enter(draft);
	if (config_table_has_section(draft->section) || std_streq(draft->section, "labels"))
		return 0;
	return config_draft_fail(draft,
		"unknown section; there are [source], [consul], [services], [labels], "
		"[service NAME], [backup], [socket], [socket NAME], [admin] and [exit]");
}

int config_section_set(struct config_draft *draft, const char *value)
{
	if (config_rule_is_section(draft->section))
		return config_rule_set(draft, value);
	if (config_socket_is_section(draft->section))
		return config_socket_set(draft, value);
	if (std_streq(draft->section, "labels"))
		return config_layers_set_label(draft, value);
	return config_table_set(draft, value);
}
