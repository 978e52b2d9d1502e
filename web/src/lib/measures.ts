// What charts show of things with messages.

import { count, rate } from './format';
import type { Measure } from './history';
import { t } from './i18n/index.svelte';

/** Messages in store: of a queue, or under `queue_totals` of all. */
export function depthChart(prefix = '') {
  const measures: Measure[] = [
    { label: t('figure.ready'), key: `${prefix}messages_ready`, kind: 'level', color: 1 },
    { label: t('figure.unacked'), key: `${prefix}messages_unacknowledged`, kind: 'level', color: 2 },
  ];
  return { title: t('chart.depth'), measures, format: (value: number | null | undefined) => count(value), whole: true };
}

/** Messages coming in and going out. */
export function rateChart() {
  const measures: Measure[] = [
    { label: t('figure.published'), key: 'message_stats.publish', kind: 'rate', color: 1 },
    { label: t('figure.delivered'), key: 'message_stats.deliver_get', kind: 'rate', color: 2 },
    { label: t('figure.acked'), key: 'message_stats.ack', kind: 'rate', color: 3 },
  ];
  return { title: t('chart.rates'), measures, format: rate };
}
