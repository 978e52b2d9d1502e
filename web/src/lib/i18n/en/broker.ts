export const broker = {
  'queues.title': 'Queues and streams',
};
