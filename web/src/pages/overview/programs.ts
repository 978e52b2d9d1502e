// The first message, in five lines of each language.

export interface Program {
  key: string;
  language: string;
  /** How its client is installed. */
  install: string;
  code: (uri: string) => string;
}

export const QUEUE = 'hello';

export const PROGRAMS: Program[] = [
  {
    key: 'python',
    language: 'Python',
    install: 'pip install pika',
    code: (uri) => `import pika
connection = pika.BlockingConnection(pika.URLParameters("${uri}/%2F"))
channel = connection.channel()
channel.queue_declare("${QUEUE}", durable=True)
channel.basic_publish("", "${QUEUE}", b"Hello, pond!")`,
  },
  {
    key: 'node',
    language: 'Node.js',
    install: 'npm install amqplib',
    code: (uri) => `import amqp from "amqplib"; // in a file hello.mjs
const channel = await (await amqp.connect("${uri}")).createConfirmChannel();
await channel.assertQueue("${QUEUE}", { durable: true });
channel.sendToQueue("${QUEUE}", Buffer.from("Hello, pond!"));
await channel.waitForConfirms().then(() => process.exit());`,
  },
  {
    key: 'java',
    language: 'Java',
    install: 'com.rabbitmq:amqp-client',
    code: (uri) => `var factory = new com.rabbitmq.client.ConnectionFactory(); factory.setUri("${uri}");
try (var connection = factory.newConnection(); var channel = connection.createChannel()) {
    channel.queueDeclare("${QUEUE}", true, false, false, null);
    channel.basicPublish("", "${QUEUE}", null, "Hello, pond!".getBytes());
}`,
  },
  {
    key: 'rust',
    language: 'Rust',
    install: 'cargo add lapin',
    code: (uri) => `let connection = lapin::Connection::connect("${uri}/%2f", Default::default()).await?;
let channel = connection.create_channel().await?;
let durable = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
channel.queue_declare("${QUEUE}".into(), durable, Default::default()).await?;
channel.basic_publish("".into(), "${QUEUE}".into(), Default::default(), b"Hello, pond!", Default::default()).await?.await?;`,
  },
];
