-- What the shop has anyway.
create table users (
  id bigint generated always as identity primary key,
  name text not null,
  email text not null,
  phone text not null,
  reset_token text not null default gen_random_uuid(),
  mailed_at timestamptz
);

-- A notice for every registration, so that the mail does not wait for the next look.
create function users_registered() returns trigger language plpgsql as
  $$ begin perform pg_notify('users', ''); return null; end $$;
create trigger users_registered after insert on users for each statement execute function users_registered();

-- The broker's account: what it reads and writes, and no more.
create role shop login password 's3cr3t-database';
grant select, update on users to shop;
