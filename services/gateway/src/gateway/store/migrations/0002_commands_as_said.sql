-- The very bytes: jsonb writes 1e20 as an integer, which its owner would refuse.
alter table accepted alter column command type json using command::json;
