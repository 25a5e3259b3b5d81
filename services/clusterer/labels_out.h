/* labels_out: the clusterer's end of the edge labels: answers "have you the table for these features?", and
 * tells everybody who asked when a table is published or a dump failed, and sends the table to those who
 * cannot read it here. Loop thread only. Owns one socket. */
#pragma once
#include "lib/wire.h"

#define LABELS_PEERS_MAX 64

struct clusterer;
struct round_entry;

struct labels_out {
    struct clusterer *clusterer;
    struct wire *wire; /* owned */
    uint8_t *piece;    /* owned: of a table on its way */
    uint32_t n_peers;
    struct wire_peer peers[LABELS_PEERS_MAX]; /* who asked; the longest silent one goes first */
};

int labels_out_open(struct labels_out *l, struct clusterer *c, struct err *e) WARN_UNUSED;
void labels_out_close(struct labels_out *l);
/* Tells everybody who asked what has become of a round. */
void labels_out_publish(struct labels_out *l, const struct round_entry *entry);
