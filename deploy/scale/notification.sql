create database notification;
