-- name: record
insert into audit (author, action, subject, after) values ($1, 'reset', $2, $3)
