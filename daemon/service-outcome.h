/*
 * What a publication of a service came to, as people are told: its error, and what is withheld
 * because it breaks the schema.
 */
#pragma once

#include "daemon/service.h"

/* Another state than before. */
void service_outcome_state(struct service *service, enum wire_state state);

/* Clients get a new generation. */
void service_outcome_new(const struct service *service);

/* It is published, or recorded where operators keep it from being published. */
void service_outcome_good(struct service *service);

/* It is not: what publication_step() gave, while the publication is still there. The error that
 * counts: -ENOMEM also where there is none to say what is withheld. */
int service_outcome_bad(struct service *service, int error);

/* Whether the same publication may work at another time. */
bool service_outcome_may_pass(int error);
