// What tables of channels show.

import { count, rate } from '$lib/format';
import { t } from '$lib/i18n/index.svelte';
import type { Channel } from '$lib/types';
import type { Column } from '$lib/ui/table';

export function channelColumns(): Column<Channel>[] {
  return [
    { key: 'name', title: t('nav.channel') },
    { key: 'user', title: t('connection.user') },
    { key: 'mode', title: t('channel.mode'), sort: false },
    { key: 'state', title: t('queue.state') },
    { key: 'prefetch_count', title: t('consumer.prefetch'), num: true, text: (row) => (row.prefetch_count ? count(row.prefetch_count) : row.prefetch_count === 0 ? '∞' : '–') },
    { key: 'consumer_count', title: t('nav.consumers'), num: true, text: (row) => count(row.consumer_count) },
    { key: 'messages_unacknowledged', title: t('figure.unacked'), num: true, text: (row) => count(row.messages_unacknowledged) },
    { key: 'messages_unconfirmed', title: t('channel.unconfirmed'), num: true, hide: 'narrow', text: (row) => count(row.messages_unconfirmed) },
    { key: 'message_stats.publish_details.rate', title: t('figure.published'), num: true, text: (row) => rate(row.message_stats?.publish_details?.rate ?? 0) },
    { key: 'message_stats.deliver_get_details.rate', title: t('figure.delivered'), num: true, text: (row) => rate(row.message_stats?.deliver_get_details?.rate ?? 0) },
  ];
}
