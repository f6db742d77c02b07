-- An order table of 3000 rows built by a recursive query, indexed, and reported on.
CREATE TABLE item(id INTEGER PRIMARY KEY, customer INTEGER, price INTEGER, name TEXT);
WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 3000)
INSERT INTO item SELECT n, n * 7919 % 101, n * n % 997, 'item ' || (n * 31 % 1009) FROM number;
CREATE INDEX by_customer ON item(customer, price);
SELECT customer, count(*), sum(price), max(name) FROM item GROUP BY customer ORDER BY 3 DESC LIMIT 5;
SELECT count(*) FROM item a JOIN item b ON b.customer = a.customer AND b.price = a.price WHERE a.id < b.id;
SELECT group_concat(name, ';') FROM (SELECT name FROM item WHERE price BETWEEN 10 AND 14 ORDER BY name);
UPDATE item SET price = price + 1 WHERE customer IN (SELECT customer FROM item WHERE price = 500);
SELECT sum(price), total(length(name)) FROM item;
