// What tables of consumers show.

import { count, duration, rate } from '$lib/format';
import { t } from '$lib/i18n/index.svelte';
import type { Consumer } from '$lib/types';
import type { Column } from '$lib/ui/table';

export const consumerKey = (row: Consumer) =>
  `${row.queue.vhost}/${row.queue.name}/${row.channel_details.name ?? ''}/${row.consumer_tag}`;

/** A promise that is not kept: less than nine tenths of it is delivered while messages wait. */
export function isBehind(row: Consumer): boolean {
  return typeof row.rate_promised === 'number' && typeof row.rate_delivered === 'number' && row.rate_delivered < row.rate_promised * 0.9;
}

export function consumerColumns(): Column<Consumer>[] {
  return [
    { key: 'consumer_tag', title: t('consumer.tag') },
    { key: 'queue.name', title: t('nav.queue') },
    { key: 'channel_details.name', title: t('nav.channel') },
    { key: 'activity_status', title: t('queue.state') },
    { key: 'prefetch_count', title: t('consumer.prefetch'), num: true, text: (row) => (row.prefetch_count === 0 ? '∞' : count(row.prefetch_count)) },
    { key: 'messages_unacknowledged', title: t('figure.unacked'), num: true, text: (row) => count(row.messages_unacknowledged) },
    { key: 'rate_promised', title: t('consumer.promised'), num: true, text: (row) => rate(row.rate_promised) },
    { key: 'rate_delivered', title: t('consumer.delivered'), num: true, text: (row) => rate(row.rate_delivered) },
    { key: 'lease_ms', title: t('consumer.lease'), num: true, hide: 'wide', text: (row) => duration(row.lease_ms) },
  ];
}
