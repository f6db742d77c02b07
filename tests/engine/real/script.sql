create table t(id integer primary key, name text, amount real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
  insert into t select i, 'name ' || (i * 7919 % 1009), i / 7.0 from n;
create index by_name on t(name);
select name, count(*), round(sum(amount), 3) from t group by name order by 3 desc limit 5;
select count(*) from t a join t b on a.name = b.name and a.id < b.id where a.id < 500;
begin; delete from t where id % 3 = 0; rollback;
select count(*), json_group_array(id) from t where name like 'name 100%' and id < 3000;
pragma integrity_check;
