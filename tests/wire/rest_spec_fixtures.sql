-- The tables and roles that PostgREST's own specs use (test/spec/fixtures), as far as the cases here need them
do $$ begin create role postgrest_test_anonymous nologin; exception when duplicate_object then null; end $$;
do $$ begin create role postgrest_test_author nologin; exception when duplicate_object then null; end $$;
do $$ begin create role postgrest_test_authenticator noinherit login; exception when duplicate_object then null; end $$;
grant postgrest_test_anonymous, postgrest_test_author to postgrest_test_authenticator;

create schema test;
create schema private;
create schema v1;
create schema "SPECIAL ""@/\#~_-";
grant usage on schema test, v1, "SPECIAL ""@/\#~_-" to postgrest_test_anonymous, postgrest_test_author;

set search_path = test;
create table items (id bigserial primary key);
insert into items select from generate_series(1, 15);
create function is_first(items) returns boolean immutable language sql as $$ select $1.id = 1 $$;
create table no_pk (a character varying, b character varying);
insert into no_pk values (null, null), ('1', '0'), ('2', '0');
create table empty_table (k character varying not null, extra character varying not null);
create table simple_pk (k character varying primary key, extra character varying not null);
insert into simple_pk values ('xyyx', 'u'), ('xYYx', 'v');
create table addresses (id int not null unique, address text not null);
insert into addresses select i, 'address ' || i from generate_series(1, 4) i;
create table app_users (id integer primary key, email text unique not null, password text not null);
insert into app_users values (1, 'test@123.com', 'pass'), (2, 'abc@123.com', 'pass'), (3, 'def@123.com', 'pass');
create table tiobe_pls (name text primary key, rank smallint);
insert into tiobe_pls values ('Java', 1), ('C', 2), ('Python', 4);
create table safe_update_items (id int primary key, name text, observation text);
insert into safe_update_items values (1, 'item-1', null), (2, 'item-2', null);
create table safe_delete_items (id int primary key, name text, observation text);
insert into safe_delete_items values (1, 'item-1', null);
create table authors_only (owner character varying not null, secret character varying primary key);
create table private_table ();
create table projects (id integer primary key, name text not null);
insert into projects values (1, 'Windows 7'), (2, 'Windows 10');
create table datarep_todos (id bigint primary key, name text, label_color integer);
create table entities (id integer primary key, name text);
insert into entities select i, 'entity ' || i from generate_series(1, 4) i;
create table w_or_wo_comma_names (name text);
insert into w_or_wo_comma_names values ('Hebdon, John'), ('Williams, Mary'), ('Smith, Joseph'), ('David White'),
  ('Larry Thompson'), ('Double O Seven(007)'), ('"'), ('Double"Quote"McGraw"'), ('\'), ('/\Slash/\Beast/\');
create table items_with_different_col_types (int_data integer, text_data text, bool_data boolean, date_data date);
insert into items_with_different_col_types values (1, 'a', true, '2000-01-01');
create table auto_incrementing_pk (
  id serial primary key, nullable_string character varying, non_nullable_string character varying not null);
create table chores (id int primary key, name text, done boolean);
insert into chores values (1, 'take out the garbage', true), (2, 'do the laundry', false), (3, 'wash the dishes', null);

create table private.articles (id integer primary key, body text, owner name not null default current_user);
insert into private.articles (id, body) values (1, 'No... It''s a thing; it''s like a bag of many things.'), (2, '...');
create function private.own() returns trigger language plpgsql as $$ begin new.owner := current_user; return new; end $$;
create trigger own before insert or update on private.articles for each row execute function private.own();
create view articles as select id, body, owner from private.articles;
create table private.article_stars (
  article_id integer, user_id integer, created_at timestamp not null default now(), primary key (article_id, user_id));
create view limited_article_stars as select article_id, user_id, created_at from private.article_stars;

create table v1.children (id serial primary key, name text);
insert into v1.children (name) values ('child v1-1'), ('child v1-2');
create table "SPECIAL ""@/\#~_-".names (id serial primary key, name text);
insert into "SPECIAL ""@/\#~_-".names (name) values ('John'), ('Mary');

create function get_guc_value(name text) returns text language sql as
$$ select nullif(current_setting(name), '')::text $$;
create function get_guc_value(prefix text, name text) returns text language sql as
$$ select nullif(current_setting(prefix)::json ->> name, '')::text $$;
create function raise_pt402() returns void language plpgsql as $$
begin
  raise sqlstate 'PT402' using message = 'Payment Required', detail = 'Quota exceeded', hint = 'Upgrade your plan';
end $$;
create function raise_sqlstate_test1() returns void language plpgsql as $$
begin
  raise sqlstate 'PGRST' using
    message = '{"code":"123","message":"ABC","details":"DEF","hint":"XYZ"}',
    detail = '{"status":332,"status_text":"My Custom Status","headers":{"X-Header":"str"}}';
end $$;
create function bad_subquery() returns setof items language sql as $$ select * from items where id = (select id from items) $$;
create function privileged_hello(name text) returns text language sql as $$ select 'Privileged hello to ' || $1 $$;
revoke execute on function privileged_hello(text) from public;
grant execute on function privileged_hello(text) to postgrest_test_author;

grant all on all tables in schema test, v1, "SPECIAL ""@/\#~_-" to postgrest_test_anonymous;
grant usage on all sequences in schema test, v1 to postgrest_test_anonymous;
revoke all on app_users, authors_only, limited_article_stars, private_table from postgrest_test_anonymous;
grant all on authors_only to postgrest_test_author;
grant select (article_id, user_id), insert (article_id, user_id) on limited_article_stars to postgrest_test_anonymous;
grant select (id, email), insert, update, delete on app_users to postgrest_test_anonymous;
